#include "bench_report.h"
#include "lacake/version.h"

#include <fmt/format.h>

#include <numeric>
#include <optional>

#include "report.h"

namespace lacake::cli {
namespace {

constexpr const char* kRow = "{:<14}{:>8}{:>8}{:>10}{:>10}{:>9}{:>10}{:>6}{:>5}";

nlohmann::json spread_json(const Spread& spread) {
  if (spread.empty()) return {};
  return {{"median", spread.median()}, {"min", spread.min()}, {"max", spread.max()}, {"values", spread.values}};
}

// Tokens a second at the median.
nlohmann::json rate_json(const Spread& ms) { return ms.empty() ? nlohmann::json() : nlohmann::json(1e3 / ms.median()); }

std::string rate_text(const Spread& ms) {
  if (ms.empty()) return "-";
  const double rate = 1e3 / ms.median();
  return fmt::format("{:.{}f}", rate, rate < 100 ? 1 : 0);
}

// Of weights and cache, at every token.
double read_gb_per_s(const BenchResult& result, const BenchSetting& setting) {
  const auto bytes = (double)(setting.weight_bytes + result.use.held_bytes);
  return bytes / result.decode_ms.median() / 1e6;
}

// The last part of a long prompt by the second: the first still fills the cache. Nothing of shorter ones.
std::optional<double> prefill_growth(const BenchResult& result) {
  if (result.parts.size() < 3) return {};
  return result.parts.back().ms_per_token / result.parts[1].ms_per_token;
}

std::string budget_text(const BenchResult& result) {
  return result.what.session.budget.given() ? result.what.session.budget.text() : "-";
}

const char* fill_text(const BenchResult& result) {
  if (result.what.depth == 0) return "none";
  return result.what.synthetic ? "synthetic" : "real";
}

}  // namespace

std::string build_type() { return LACAKE_BUILD_TYPE; }

std::string build_fault() {
#ifndef __OPTIMIZE__
  return "without optimisation";
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "with a sanitizer";
#elif !defined(NDEBUG)
  return "with assertions";
#else
  return "";
#endif
}

std::string bench_heading(const BenchSetting& setting, const Terminal& terminal) {
  const ModelFacts& facts = setting.facts;
  std::string text = terminal.paint(Style::kBold, facts.name.empty() ? facts.path : facts.name);
  text += fmt::format(", {}\n", facts.weight_types);
  text += fmt::format("lacake {} ({}), {} thread{}, products {}, attention {}{}\n", LACAKE_VERSION, build_type(),
                      setting.threads, setting.threads == 1 ? "" : "s", facts.product, setting.attention.target,
                      setting.attention.target == "ggml" ? "" : " " + setting.attention.arithmetic);
  text += fmt::format("a plain read of memory by as many threads: {:.1f} GB/s\n\n", setting.machine_gb_per_s);
  text += terminal.paint(Style::kDim, fmt::format(kRow, "", "", "", "prefill", "decode", "decode", "", "read", "of"));
  text += "\n";
  const std::string names =
      fmt::format(kRow, "policy", "budget", "depth", "tokens/s", "tokens/s", "ms/token", "KV held", "GB/s", "it");
  return text + terminal.paint(Style::kDim, names) + "\n";
}

std::string bench_row(const BenchResult& result, const BenchSetting& setting, const Terminal&) {
  const std::string policy = result.what.session.policy.text();
  std::string text, name = policy;
  if (policy.size() > 13) {
    text = policy + "\n";
    name.clear();
  }
  std::string ms = "-", read = "-", share = "-";
  if (!result.decode_ms.empty()) {
    const double gb_per_s = read_gb_per_s(result, setting);
    ms = fmt::format("{:.2f}", result.decode_ms.median());
    read = fmt::format("{:.1f}", gb_per_s);
    share = fmt::format("{:.0f}%", 100 * gb_per_s / setting.machine_gb_per_s);
  }
  text += fmt::format(
      kRow, name, budget_text(result), fmt::format("{}{}", result.what.depth, result.what.synthetic ? "*" : ""),
      rate_text(result.prefill_ms), rate_text(result.decode_ms), ms, bytes_text(result.use.held_bytes), read, share);
  text += "\n";
  if (const auto growth = prefill_growth(result)) {
    text += fmt::format("  ms/token of the prompt: tokens {}-{} {:.3f}, the last {} {:.3f} ({:.2f} times)\n",
                        result.parts[1].from, result.parts[1].to, result.parts[1].ms_per_token,
                        result.parts.back().to - result.parts.back().from, result.parts.back().ms_per_token, *growth);
  }
  return text;
}

nlohmann::json bench_json(const BenchResult& result, const BenchSetting& setting) {
  const ModelFacts& facts = setting.facts;
  const SessionOptions& session = result.what.session;
  const auto& lengths = result.use.entries_per_layer;
  const double entries =
      lengths.empty() ? 0 : (double)std::accumulate(lengths.begin(), lengths.end(), 0ULL) / (double)lengths.size();
  nlohmann::json json = {
      {"schema", 1},
      {"model", facts.name},
      {"model_path", facts.path},
      {"weight_types", facts.weight_types},
      {"n_parameters", facts.n_parameters},
      {"version", LACAKE_VERSION},
      {"build_type", build_type()},
      {"build_fault", build_fault()},
      {"threads", setting.threads},
      {"attention_target", setting.attention.target},
      {"attention_arithmetic", setting.attention.arithmetic},
      {"product", facts.product},
      {"policy", session.policy.text()},
      {"kv_budget", session.budget.given() ? nlohmann::json(session.budget.text()) : nlohmann::json()},
      {"kv_type", session.types.text()},
      {"prefill", prefill_name(session.prefill)},
      {"chunk", session.prefill == PrefillMode::kExact ? nlohmann::json() : nlohmann::json(result.plan.chunk)},
      {"depth", result.what.depth},
      {"fill", fill_text(result)},
      {"fill_ms", spread_json(result.fill_ms)},
      {"n_prompt", result.what.n_prompt},
      {"n_gen", result.what.n_gen},
      {"repetitions", result.what.repetitions},
      {"prefill_tokens_per_s", rate_json(result.prefill_ms)},
      {"prefill_ms_per_token", spread_json(result.prefill_ms)},
      {"decode_tokens_per_s", rate_json(result.decode_ms)},
      {"decode_ms_per_token", spread_json(result.decode_ms)},
      {"prefill_policy_ms_per_token", spread_json(result.prefill_policy_ms)},
      {"decode_policy_ms_per_token", spread_json(result.decode_policy_ms)},
      {"budget_bytes", result.plan.budget_bytes},
      {"held_bytes", result.use.held_bytes},
      {"full_bytes", result.use.full_bytes},
      {"entries_per_layer", entries},
      {"weight_bytes_per_token", setting.weight_bytes},
      {"machine_read_gb_per_s", setting.machine_gb_per_s},
      {"planned_bytes", result.plan.memory.total()},
      {"peak_rss_bytes", result.peak_bytes},
      {"sample_bytes", result.sample_bytes},
  };
  if (!result.decode_ms.empty()) {
    const double gb_per_s = read_gb_per_s(result, setting);
    json["slowest_token_ms"] = result.slowest_token_ms;
    json["read_gb_per_s"] = gb_per_s;
    json["bandwidth_share"] = gb_per_s / setting.machine_gb_per_s;
  }
  if (result.parts.size() > 1) {
    for (const PrefillPart& part : result.parts) {
      json["prefill_parts"].push_back({{"from", part.from}, {"to", part.to}, {"ms_per_token", part.ms_per_token}});
    }
  }
  if (const auto growth = prefill_growth(result)) json["prefill_growth"] = *growth;
  return json;
}

}  // namespace lacake::cli
