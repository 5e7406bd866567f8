#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/answers.h"
#include "eval/grid.h"
#include "eval/json_lines.h"
#include "eval/perplexity.h"
#include "eval/results.h"
#include "lacake/engine.h"
#include "options.h"
#include "terminal.h"

namespace lacake::cli {

// One task of `lacake eval`: a row of its table.
struct EvalTask {
  const char* name;
  int (*run)(const Options&);
};

int eval_perplexity(const Options& options);
int eval_needle(const Options& options);
int eval_ruler(const Options& options);
int eval_longbench(const Options& options);
int eval_compare(const Options& options);
int eval_report(const Options& options);

// What every task that runs a model starts with: checked options, model, engine, grid.
class Evaluation {
 public:
  Evaluation(const Options& options, std::string task);

  const Model& model() const { return model_; }
  Engine& engine() { return engine_; }
  const std::vector<eval::Configuration>& grid() const { return grid_; }
  eval::ConfigurationOptions cells() const { return cells_; }
  std::uint64_t most_cache_bytes() const { return most_cache_bytes_; }

  // The results folder. `meaning` and `grid` are the task's own part of the configuration.
  eval::Results open_results(nlohmann::json meaning, nlohmann::json grid) const;
  // Progress on standard error, Ctrl-C, notices.
  eval::RunControl watch();

  // Samples answered under --question. False if it was stopped.
  bool answer(const std::vector<eval::Sample>& samples, eval::Results& results);

  // --beside, checked: a cell of the grid. "": none.
  const std::string& beside() const { return beside_; }

  // Metrics and report into the folder and, as JSON or as `table`, to standard output. Returns the exit status.
  int close(const eval::Results& results, const nlohmann::json& metrics, const std::string& table, bool finished) const;

 private:
  const Options& options_;
  std::string task_;
  std::vector<eval::Configuration> grid_;
  eval::ConfigurationOptions cells_;
  Terminal terminal_;
  Model model_;
  Engine engine_;
  std::uint64_t most_cache_bytes_;
  ProgressBar bar_;
  std::string beside_;
};

// --beside, or "". Throws Error(kUsage) where no cell of the grid is so called.
std::string chosen_beside(const Options& options, const std::vector<eval::Configuration>& grid);

// Scores or perplexities of all cells, with what they cost; below, where there are some, the scores of tasks and
// questions.
std::string metrics_table(const nlohmann::json& metrics, const Terminal& terminal);

// metrics.json and report.html into a folder of results.
void write_metrics(const std::string& folder, const nlohmann::json& config, const nlohmann::json& metrics);

// A file as a configuration names it: {"name": "book.txt", "xxh3": "..."}.
nlohmann::json file_json(const std::string& path, std::string_view content);

// --tasks, each one of `names`. Throws Error(kUsage) naming those where one is not.
std::vector<std::string> chosen_tasks(const Options& options, const std::vector<std::string>& names);

// Files of samples, each read once. Throws Error(kInput) naming one that is not there or has no text in it.
std::vector<eval::DataFile> read_data(const std::vector<std::string>& paths);

// Throws Error(kInput) where there is none, or none of a task that was asked for: the mean of the others would pass for
// that of all. `path` stands for all files.
void require_samples(const std::vector<eval::Sample>& samples, const std::vector<std::string>& tasks,
                     const std::string& path);

// Says which broken lines were left out, the first few by name.
void warn_of_skipped(const std::vector<std::string>& lines);

// Rows of cells as a table: the first column to the left, the others to the right.
std::string table_text(const std::vector<std::vector<std::string>>& rows, const Terminal& terminal);

}  // namespace lacake::cli
