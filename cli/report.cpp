#include "report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

namespace lacake::cli {
namespace {

struct PlanRow {
  const char* json;
  const char* label;
  std::uint64_t MemoryPlan::*bytes;
};

constexpr PlanRow kPlanRows[] = {
    {"program", "program", &MemoryPlan::program},
    {"vocabulary", "vocabulary", &MemoryPlan::vocabulary},
    {"mapped_weights", "mapped weights", &MemoryPlan::mapped_weights},
    {"second_weights", "repacked weights", &MemoryPlan::second_weights},
    {"cache", "KV cache", &MemoryPlan::cache},
    {"policy_metadata", "policy metadata", &MemoryPlan::policy_metadata},
    {"layer_workspace", "one layer's workspace", &MemoryPlan::layer_workspace},
    {"hidden_states", "hidden states", &MemoryPlan::hidden_states},
    {"compute", "compute", &MemoryPlan::compute},
    {"turn_copy", "copy to undo a turn", &MemoryPlan::turn_copy},
};

std::string count_text(std::uint64_t n) {
  if (n >= 1'000'000'000) return fmt::format("{:.1f} billion", (double)n / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.0f} million", (double)n / 1e6);
  return fmt::format("{}", n);
}

}  // namespace

std::string model_text(const ModelFacts& facts, const Terminal& terminal) {
  const auto& a = facts.attention;
  std::string text = terminal.paint(Style::kBold, facts.name.empty() ? facts.path : facts.name) + "\n";
  const auto line = [&](std::string_view label, const std::string& value) {
    text += fmt::format("  {} {}\n", terminal.paint(Style::kDim, fmt::format("{:<12}", label)), value);
  };
  line("architecture", fmt::format("{}, {} parameters", facts.architecture, count_text(facts.n_parameters)));
  line("weights", facts.weight_types);
  line("layers", fmt::format("{}, width {}, feed-forward {}", a.n_layer, facts.n_embd, facts.n_ff));
  line("attention", fmt::format("{} heads over {} KV heads of {}", a.n_head, a.n_head_kv,
                                facts.head_size_k == facts.head_size_v
                                    ? fmt::format("{}", facts.head_size_k)
                                    : fmt::format("{} (K) and {} (V)", facts.head_size_k, facts.head_size_v)));
  if (facts.n_sliding_layers > 0) {
    line("sliding", fmt::format("{} of the layers see {} tokens back", facts.n_sliding_layers, facts.sliding_window));
  }
  if (facts.n_expert > 0) line("experts", fmt::format("{}, {} for each token", facts.n_expert, facts.n_expert_used));
  if (const CalibrationFacts& learned = facts.calibration; !facts.calibration_path.empty()) {
    line("calibration", fmt::format("{}: {} from {} tokens of {}, R2 {:.3f}", facts.calibration_path, learned.target,
                                    learned.n_tokens, fmt::join(learned.texts, ", "), learned.mean_r2()));
  }
  line("vocabulary", fmt::format("{} tokens", facts.n_vocab));
  line("length", fmt::format("{} tokens in training", facts.training_length));
  return text;
}

nlohmann::json calibration_json(const CalibrationFacts& facts) {
  return {{"target", facts.target},
          {"texts", facts.texts},
          {"tokens", facts.n_tokens},
          {"held_out", facts.n_held_out},
          {"chunk", facts.chunk},
          {"alpha", facts.alpha},
          {"r2", facts.r2}};
}

nlohmann::json model_json(const ModelFacts& facts) {
  return {{"path", facts.path},
          {"name", facts.name},
          {"architecture", facts.architecture},
          {"weight_types", facts.weight_types},
          {"calibration", facts.calibration_path.empty() ? nlohmann::json() : calibration_json(facts.calibration)},
          {"n_parameters", facts.n_parameters},
          {"n_vocab", facts.n_vocab},
          {"n_embd", facts.n_embd},
          {"n_ff", facts.n_ff},
          {"n_layer", facts.attention.n_layer},
          {"n_sliding_layers", facts.n_sliding_layers},
          {"sliding_window", facts.sliding_window},
          {"n_expert", facts.n_expert},
          {"n_expert_used", facts.n_expert_used},
          {"n_head", facts.attention.n_head},
          {"n_head_kv", facts.attention.n_head_kv},
          {"head_size_k", facts.head_size_k},
          {"head_size_v", facts.head_size_v},
          {"training_length", facts.training_length},
          {"mapped_bytes", facts.mapped_bytes},
          {"second_bytes", facts.second_bytes}};
}

std::string plan_text(const SessionPlan& plan, const ModelFacts& facts, const SessionOptions& options,
                      const Terminal& terminal) {
  // Two columns of cells, read downwards: what is there before a prompt, then what the prompt brings.
  std::vector<std::string> cells;
  for (const PlanRow& row : kPlanRows) {
    cells.push_back(fmt::format("{:<22}{:>9}", row.label, bytes_text(plan.memory.*row.bytes)));
  }
  const std::size_t half = (cells.size() + 1) / 2;
  cells.resize(2 * half);
  std::string text = terminal.paint(Style::kBold, "memory plan") + "\n";
  for (std::size_t i = 0; i < half; ++i) text += fmt::format("  {}     {}\n", cells[i], cells[half + i]);
  text += terminal.paint(Style::kBold, fmt::format("  {:<22}{:>9}\n", "total", bytes_text(plan.memory.total())));

  const auto n_layer = (std::uint64_t)facts.attention.n_layer;
  text +=
      fmt::format("  {}: up to {:.6g} entries a layer of {} ({}), {} prefill", options.policy.text(),
                  (double)plan.budget_bytes / (double)(n_layer * plan.entry_bytes), bytes_text(plan.entry_bytes),
                  options.types.text(),
                  options.prefill == PrefillMode::kExact ? "exact" : fmt::format("streaming ({} a chunk)", plan.chunk));
  if (plan.n_sliding_layers > 0) {
    text += fmt::format(
        "\n  {} sliding-window layers hold {} entries at most, {} with full attention share the rest: {}",
        plan.n_sliding_layers, plan.sliding_entries, n_layer - plan.n_sliding_layers, plan.full_layer_entries);
  }
  return text + "\n";
}

nlohmann::json plan_json(const MemoryPlan& plan) {
  nlohmann::json json = {{"total", plan.total()}};
  for (const PlanRow& row : kPlanRows) json[row.json] = plan.*row.bytes;
  return json;
}

nlohmann::json cache_json(const CacheUse& use, const SessionOptions& options) {
  return {{"budget_bytes", use.budget_bytes}, {"held_bytes", use.held_bytes},
          {"peak_bytes", use.peak_bytes},     {"full_bytes", use.full_bytes},
          {"type", options.types.text()},     {"entries_per_layer", use.entries_per_layer}};
}

std::string json_line(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace lacake::cli
