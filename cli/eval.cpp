// lacake eval: the tasks' common ground.

#include "eval.h"

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/files.h"
#include "base/nearest.h"
#include "checks.h"
#include "commands.h"
#include "eval/report.h"
#include "grid.h"
#include "interrupt.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "library_options.h"
#include "output.h"
#include "prompt.h"
#include "report.h"
#include "sizing.h"
#include "text/utf8.h"

namespace lacake::cli {
namespace {

constexpr EvalTask kTasks[] = {
    {"perplexity", eval_perplexity}, {"needle", eval_needle},   {"ruler", eval_ruler},
    {"longbench", eval_longbench},   {"compare", eval_compare}, {"report", eval_report},
};

const Options& checked(const Options& options) {
  if (options.model.empty()) {
    throw Error({.kind = Error::Kind::kUsage, .found = "no model: expected -m FILE (see lacake eval --help)"});
  }
  return options;
}

eval::ConfigurationOptions cell_options(const Options& options) {
  eval::ConfigurationOptions cells;
  if (options.kv_type) cells.types = CacheTypes::parse(*options.kv_type);
  cells.prefill = options.prefill == "exact" ? PrefillMode::kExact : PrefillMode::kStreaming;
  return cells;
}

std::uint64_t cache_memory(const Options& options) {
  return options.cache_memory ? bytes_option("cache_memory", *options.cache_memory) : free_memory_bytes() / 2;
}

std::string hash_text(std::string_view bytes) {
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

}  // namespace

int eval(const Options& options) {
  std::vector<std::string> names;
  for (const EvalTask& task : kTasks) names.emplace_back(task.name);
  if (options.words.empty()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .found = fmt::format("no task: expected {} (see lacake eval --help)", fmt::join(names, ", "))});
  }
  for (const EvalTask& task : kTasks) {
    if (options.words[0] != task.name) continue;
    check_effects_of_task(options, task.name);
    return task.run(options);
  }
  const std::string near = nearest(options.words[0], names);
  throw Error(
      {.kind = Error::Kind::kUsage,
       .subject = fmt::format("\"{}\"", options.words[0]),
       .found = fmt::format("no such task{}; expected {} (see lacake eval --help)",
                            near.empty() ? "" : fmt::format(", did you mean {}?", near), fmt::join(names, ", "))});
}

Evaluation::Evaluation(const Options& options, std::string task)
    : options_(checked(options)),
      task_(std::move(task)),
      grid_(grid_of(options)),
      cells_(cell_options(options)),
      terminal_(STDERR_FILENO, options.color),
      model_(options.model, model_options(options)),
      engine_(model_, engine_options(options)),
      most_cache_bytes_(cache_memory(options)),
      bar_(terminal_, task_, options.quiet || options.json),
      beside_(chosen_beside(options, grid_)) {
  check_budgets(options, grid_);
  if (options.words.size() > 1) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = task_,
                 .expected = "options after it",
                 .found = fmt::format("\"{}\"", options.words[1])});
  }
  watch_interrupt();
}

eval::Results Evaluation::open_results(nlohmann::json meaning, nlohmann::json grid) const {
  const std::string stem = std::filesystem::path(options_.model).stem().string();
  const ModelFacts& facts = model_.facts();
  meaning["task"] = task_;
  meaning["model"] = {{"file", std::filesystem::path(options_.model).filename().string()},
                      {"name", facts.name},
                      {"architecture", facts.architecture},
                      {"fingerprint", model_.fingerprint()},
                      {"weight_types", facts.weight_types},
                      {"n_parameters", facts.n_parameters},
                      {"options", options_json(options_, kEval, {"Model", "RoPE"})}};
  // Said above, by content, or of no account for what comes out.
  for (const char* key : {"model", "threads", "lora", "lora_scaled", "calibration"})
    meaning["model"]["options"].erase(key);
  for (const Model::LoraFile& lora : model_options(options_).loras) {
    nlohmann::json file = file_json(lora.path, read_file(lora.path));
    file["scale"] = lora.scale;
    meaning["model"]["loras"].push_back(std::move(file));
  }
  if (const std::string& path = facts.calibration_path; !path.empty()) {
    meaning["model"]["calibration"] = file_json(path, read_file(path));
  }
  meaning["kv_type"] = cells_.types.text();
  meaning["prefill"] = options_.prefill;
  for (const eval::Configuration& cell : grid_) grid["cells"].push_back(cell.name());
  return eval::Results(options_.results.value_or(fmt::format("results/{}-{}", task_, stem)),
                       {{"schema", 1}, {"meaning", meaning}, {"grid", grid}});
}

eval::RunControl Evaluation::watch() {
  return {.progress =
              [this](std::size_t done, std::size_t total) {
                bar_.show(done, total);
                return !interrupted();
              },
          // A cell that is left out is missing from the table.
          .notice = warn,
          .words =
              [](const Error& error) {
                return error.with_names([](std::string_view setting) { return flag_of(kEval, setting); });
              }};
}

bool Evaluation::answer(const std::vector<eval::Sample>& samples, eval::Results& results) {
  const eval::AnswerOptions answering{
      .question = options_.question == "seen" ? eval::Question::kSeen : eval::Question::kLater,
      .most_cache_bytes = most_cache_bytes_,
      .cells = cells_};
  return eval::run_answers(model_, engine_, grid_, samples, answering, watch(), results);
}

int Evaluation::close(const eval::Results& results, const nlohmann::json& metrics, const std::string& table,
                      bool finished) const {
  write_metrics(results.folder(), results.config(), metrics);
  const std::string uneven = finished ? eval::uneven_samples(results.records(), grid_) : "";
  if (!uneven.empty()) warn(uneven);
  if (options_.json) {
    write_output(json_line(metrics));
  } else {
    write_output(table);
  }
  notice(options_, finished ? fmt::format("records, metrics and report.html are in {}", results.folder())
                            : fmt::format("stopped; what is finished is in {}: the same command goes on from there",
                                          results.folder()));
  return finished ? 0 : kInterruptedStatus;
}

std::string chosen_beside(const Options& options, const std::vector<eval::Configuration>& grid) {
  if (!options.beside) return "";
  const auto is_held_against = [&](const eval::Configuration& cell) {
    return eval::cell_beside(grid, cell, *options.beside) != nullptr;
  };
  if (std::ranges::any_of(grid, is_held_against)) return *options.beside;
  std::vector<std::string> names;
  for (const eval::Configuration& cell : grid) names.push_back(cell.name());
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "--beside",
               .expected = fmt::format("a cell beside others, of {}", fmt::join(names, "; ")),
               .found = *options.beside});
}

void write_metrics(const std::string& folder, const nlohmann::json& config, const nlohmann::json& metrics) {
  replace_durably(folder + "/report.html", eval::report_html(config, metrics));
  replace_durably(folder + "/metrics.json", metrics.dump(1) + "\n");
}

nlohmann::json file_json(const std::string& path, std::string_view content) {
  return {{"name", std::filesystem::path(path).filename().string()}, {"xxh3", hash_text(content)}};
}

std::vector<std::string> chosen_tasks(const Options& options, const std::vector<std::string>& names) {
  const std::vector<std::string> tasks = list_items(options.tasks);
  for (const std::string& task : tasks) {
    if (std::find(names.begin(), names.end(), task) != names.end()) continue;
    const std::string near = nearest(task, names);
    throw Error(
        {.kind = Error::Kind::kUsage,
         .subject = fmt::format("--tasks: \"{}\"", task),
         .found = fmt::format("no such task{}; expected {}",
                              near.empty() ? "" : fmt::format(", did you mean {}?", near), fmt::join(names, ", "))});
  }
  return tasks;
}

std::vector<eval::DataFile> read_data(const std::vector<std::string>& paths) {
  std::vector<eval::DataFile> files;
  for (const std::string& path : paths) {
    std::optional<std::string> text = read_file_if_there(path);
    if (!text) throw Error({.subject = path, .found = "cannot be opened: no such file"});
    require_some_text(*text, path);
    files.push_back({path, std::move(*text)});
  }
  return files;
}

void require_samples(const std::vector<eval::Sample>& samples, const std::vector<std::string>& tasks,
                     const std::string& path) {
  if (samples.empty()) {
    throw Error({.subject = path, .expected = "a sample of a task asked for", .found = "none"});
  }
  for (const std::string& task : tasks) {
    const auto is_of_it = [&](const eval::Sample& sample) {
      const std::string tag = sample.tags.at("task");
      return tag == task || tag.starts_with(task + "_");  // RULER's qa is qa_1 or qa_2
    };
    if (std::ranges::any_of(samples, is_of_it)) continue;
    throw Error({.subject = "--tasks", .expected = "tasks that the data has samples of", .found = task});
  }
}

void warn_of_skipped(const std::vector<std::string>& lines) {
  constexpr std::size_t kNamed = 5;
  for (std::size_t i = 0; i < std::min(lines.size(), kNamed); ++i) warn("left out: " + lines[i]);
  if (lines.size() > kNamed) warn(fmt::format("left out: {} broken lines in all", lines.size()));
}

std::string metrics_table(const nlohmann::json& metrics, const Terminal& terminal) {
  const bool perplexity = metrics.at("task") == "perplexity";
  std::vector<std::vector<std::string>> rows = {{"policy and budget"}};
  const auto add_heads = [&](std::initializer_list<const char*> heads) {
    rows[0].insert(rows[0].end(), heads.begin(), heads.end());
  };
  if (perplexity) {
    add_heads({"perplexity", "+/-", "to full", "first", "last", "KL to full", "equal", "tokens", "KV peak"});
  } else {
    add_heads({"score", "95 %", "of full", "95 %", "KL to full", "equal", "KV peak", "decode ms", "samples"});
  }
  const bool beside =
      std::ranges::any_of(metrics.at("cells"), [](const nlohmann::json& cell) { return cell.contains("beside"); });
  if (beside) rows[0].emplace_back("beside");
  const auto number = [](const nlohmann::json& cell, const char* key, const char* format, double factor) {
    return cell.contains(key) ? fmt::format(fmt::runtime(format), factor * cell.at(key).get<double>()) : "-";
  };
  const auto or_none = [](const std::string& text) { return text.empty() ? "-" : text; };
  for (const nlohmann::json& cell : metrics.at("cells")) {
    std::vector<std::string> row = {cell.at("cell")};
    const auto add = [&](std::initializer_list<std::string> texts) { row.insert(row.end(), texts); };
    const std::string kl = number(cell, "kl", "{:.4f}", 1), same = number(cell, "same", "{:.1f} %", 100),
                      peak = bytes_text(cell.at("kv").at("peak_bytes").get<std::uint64_t>());
    if (perplexity) {
      const auto& windows = cell.at("windows");
      add({number(cell, "perplexity", "{:.4f}", 1), number(cell, "standard_error", "{:.4f}", 1),
           cell.contains("ratio") ? number(cell["ratio"], "ratio", "{:.3f}", 1) : "-",
           number(windows.front(), "perplexity", "{:.2f}", 1), number(windows.back(), "perplexity", "{:.2f}", 1), kl,
           same, number(cell, "tokens", "{:.0f}", 1), peak});
    } else {
      add({number(cell, "score", "{:.1f} %", 100), or_none(eval::interval_text(cell, "interval")),
           number(cell, "retention", "{:.1f} %", 100), or_none(eval::interval_text(cell, "retention_interval")), kl,
           same, peak, number(cell, "decode_ms", "{:.1f}", 1), number(cell, "samples", "{:.0f}", 1)});
    }
    if (beside) row.push_back(or_none(eval::beside_text(cell)));
    rows.push_back(std::move(row));
  }
  std::string text = table_text(rows, terminal);
  for (const auto& more : {eval::scores_by_task(metrics), eval::scores_by_question(metrics)}) {
    if (!more.empty()) text += "\n" + table_text(more, terminal);
  }
  return text;
}

std::string table_text(const std::vector<std::vector<std::string>>& rows, const Terminal& terminal) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (std::size_t i = 0; i < rows[r].size(); ++i) {
      line += i == 0 ? fmt::format("{:<{}}", rows[r][i], widths[i]) : fmt::format("  {:>{}}", rows[r][i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += (r == 0 ? terminal.paint(Style::kBold, line) : line) + "\n";
  }
  return text;
}

}  // namespace lacake::cli
