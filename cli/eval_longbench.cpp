// lacake eval longbench: LongBench's files as published.

#include "eval/longbench/longbench.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "eval.h"
#include "lacake/error.h"

namespace lacake::cli {
namespace {

// A folder stands for its JSONL files of the tasks asked for, by name.
std::vector<std::string> data_files(const std::vector<std::string>& given, const std::vector<std::string>& tasks) {
  std::vector<std::string> files;
  for (const std::string& path : given) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    const std::size_t before = files.size();
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      const std::string stem = entry.path().stem().string();
      const bool known =
          std::ranges::any_of(tasks, [&](const auto& task) { return stem == task || stem == task + "_e"; });
      if (entry.path().extension() == ".jsonl" && known) files.push_back(entry.path().string());
    }
    std::sort(files.begin() + (std::ptrdiff_t)before, files.end());
    if (files.size() == before) {
      throw Error({.subject = path, .expected = "files named TASK.jsonl", .found = "none of a task asked for"});
    }
  }
  return files;
}

}  // namespace

int eval_longbench(const Options& options) {
  std::vector<std::string> given(options.words.begin() + 1, options.words.end());
  given.insert(given.end(), options.files.begin(), options.files.end());
  if (given.empty()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "longbench",
                 .expected = "its JSONL files or their folder (lacake eval longbench FILE...)",
                 .found = "none"});
  }
  const std::vector<std::string> names = eval::longbench_task_names(), tasks = chosen_tasks(options, names);
  eval::LongBenchOptions longbench;
  longbench.tasks = tasks;
  longbench.max_length = (std::size_t)options.max_length.value_or(0);
  longbench.limit = (std::size_t)options.limit.value_or(0);
  longbench.chat = !options.raw;
  longbench.bad_line = options.skip_broken ? eval::BadLine::kSkip : eval::BadLine::kStop;
  std::vector<eval::DataFile> files = read_data(data_files(given, tasks.empty() ? names : tasks));
  nlohmann::json data;
  for (const eval::DataFile& file : files) data.push_back(file_json(file.path, file.text));
  const std::string first = files[0].path;

  Options own = options;
  own.words.resize(1);  // the others are files
  Evaluation evaluation(own, "longbench");
  const eval::LongBenchSamples read = eval::longbench_samples(evaluation.model(), std::move(files), longbench);
  warn_of_skipped(read.skipped);
  require_samples(read.samples, tasks, first);

  nlohmann::json meaning = {{"question", options.question},
                            {"chat_template", longbench.chat && evaluation.model().has_chat_template()},
                            {"max_length", options.max_length ? nlohmann::json(*options.max_length) : nlohmann::json()},
                            {"data", data}};
  nlohmann::json grid = {{"samples", read.samples.size()}, {"broken_lines", read.skipped.size()}};
  if (!tasks.empty()) grid["tasks"] = tasks;
  if (options.limit) grid["limit"] = *options.limit;
  eval::Results results = evaluation.open_results(meaning, grid);
  const bool finished = evaluation.answer(read.samples, results);
  const nlohmann::json metrics =
      eval::answer_metrics("longbench", results.records(), evaluation.grid(), evaluation.beside());
  return evaluation.close(results, metrics, metrics_table(metrics, Terminal(STDOUT_FILENO, options.color)), finished);
}

}  // namespace lacake::cli
