// lacake eval report FOLDER: metrics and report.html of records that are there, without a model.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "commands.h"
#include "eval.h"
#include "eval/perplexity.h"
#include "lacake/error.h"
#include "output.h"
#include "report.h"

namespace lacake::cli {
namespace {

// The cells of the last run, then those of earlier ones.
std::vector<eval::Configuration> cells_of(const nlohmann::json& config, const std::vector<nlohmann::json>& records) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  const nlohmann::json grid = config.value("grid", nlohmann::json::object());
  for (const nlohmann::json& name : grid.value("cells", nlohmann::json::array())) add(name);
  for (const nlohmann::json& record : records) add(record.at("cell"));
  std::vector<eval::Configuration> cells;
  for (const std::string& name : names) cells.push_back(eval::Configuration::parse(name));
  return cells;
}

}  // namespace

int eval_report(const Options& options) {
  if (options.words.size() != 2) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "report",
                 .expected = "a folder of results",
                 .found = fmt::format("{}", options.words.size() - 1)});
  }
  const std::string& folder = options.words[1];
  const std::string path = folder + "/config.json";
  const auto text = read_file_if_there(path);
  if (!text) throw Error({.subject = path, .found = "no such file"});
  const nlohmann::json config = nlohmann::json::parse(*text, nullptr, false);
  if (!config.is_object() || !config.contains("meaning") || !config["meaning"].contains("task")) {
    throw Error({.subject = path, .expected = "the configuration of an evaluation", .found = "another text"});
  }
  // No eval::Results, so that the report of an evaluation that is still running can be seen.
  const std::vector<nlohmann::json> records = eval::read_records(folder + "/predictions.jsonl");
  if (records.empty()) {
    throw Error({.subject = folder, .expected = "records of an evaluation", .found = "none"});
  }
  const std::vector<eval::Configuration> grid = cells_of(config, records);
  const std::string task = config["meaning"]["task"], beside = chosen_beside(options, grid);
  if (options.window && task != "perplexity") {
    throw Error({.kind = Error::Kind::kUsage, .subject = "--window", .expected = "task perplexity", .found = task});
  }
  const nlohmann::json metrics =
      task == "perplexity" ? eval::perplexity_metrics(records, grid, (std::size_t)options.window.value_or(256), beside)
                           : eval::answer_metrics(task, records, grid, beside);
  write_metrics(folder, config, metrics);
  if (const std::string uneven = eval::uneven_samples(records, grid); !uneven.empty()) warn(uneven);
  write_output(options.json ? json_line(metrics) : metrics_table(metrics, Terminal(STDOUT_FILENO, options.color)));
  notice(options, fmt::format("metrics and report.html are in {}", folder));
  return 0;
}

}  // namespace lacake::cli
