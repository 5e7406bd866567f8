// lacake eval ruler: RULER's tasks, made to a length or read from its own files.

#include "eval/ruler/ruler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "commands.h"
#include "eval.h"
#include "lacake/error.h"
#include "prompt.h"

namespace lacake::cli {

namespace {

// Texts that none of the tasks asked for has a use for.
void check_used(const Options& options, const std::vector<std::string>& tasks) {
  const auto refuse = [&](const char* flag, const std::vector<std::string>& wanted) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = flag,
                 .expected = fmt::format("one of the tasks {}", fmt::join(wanted, ", ")),
                 .found = fmt::format("{}", fmt::join(tasks, ", "))});
  };
  const auto any_of = [&](const std::vector<std::string>& wanted) {
    return tasks.empty() || std::ranges::any_of(tasks, [&](const std::string& task) {
             return std::ranges::find(wanted, task) != wanted.end();
           });
  };
  const std::vector<std::string> haystack = eval::ruler_haystack_tasks();
  if (!options.files.empty() && !any_of(haystack)) refuse("--file", haystack);
  if (!options.qa.empty() && !any_of({"qa"})) refuse("--qa", {"qa"});
}

}  // namespace

int eval_ruler(const Options& options) {
  if (options.files.size() > 1) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "--file",
                 .expected = "one haystack",
                 .found = fmt::format("{}", options.files.size())});
  }
  const std::vector<std::string> tasks = chosen_tasks(options, eval::ruler_task_names());
  check_used(options, tasks);
  const bool read = !options.data.empty();
  eval::RulerOptions ruler;
  for (const std::int64_t length : options.lengths) ruler.lengths.push_back((std::size_t)length);
  if (ruler.lengths.empty()) ruler.lengths = {1024, 2048, 4096};
  ruler.tasks = tasks;
  ruler.samples = (std::size_t)options.n_samples.value_or(10);
  ruler.seed = (std::uint64_t)options.seed.value_or(0);
  ruler.questions = (std::size_t)options.n_questions.value_or(1);

  nlohmann::json meaning = {{"question", options.question}}, grid;
  if (ruler.questions > 1) meaning["questions"] = ruler.questions;
  if (!options.files.empty()) {
    ruler.haystack = read_text(options.files[0]);
    if (ruler.haystack.find_first_not_of(" \t\r\n") == std::string::npos) {
      throw Error({.subject = options.files[0], .expected = "a text as haystack", .found = "nothing in it"});
    }
    meaning["haystack"] = file_json(options.files[0], ruler.haystack);
  }
  for (const std::string& path : options.qa) {
    const std::string text = read_text(path);
    ruler.qa.push_back(eval::parse_ruler_qa(path, text));
    meaning["qa"].push_back(file_json(path, text));
  }

  std::vector<eval::DataFile> data = read_data(options.data);
  for (const eval::DataFile& file : data) {
    const nlohmann::json json = file_json(file.path, file.text);
    for (const nlohmann::json& other : meaning.value("data", nlohmann::json::array())) {
      if (other.at("xxh3") != json.at("xxh3")) continue;
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "--data " + file.path,
                   .expected = "samples of its own",
                   .found = "those of another file"});
    }
    meaning["data"].push_back(json);
  }

  Evaluation evaluation(options, "ruler");
  if (!options.raw) ruler.chat = eval::ChatFrame(evaluation.model());
  meaning["chat_template"] = !ruler.chat.empty();
  std::vector<eval::Sample> samples;
  if (read) {
    eval::RulerData of_files = eval::ruler_data(std::move(data), tasks, ruler.chat,
                                                options.skip_broken ? eval::BadLine::kSkip : eval::BadLine::kStop);
    warn_of_skipped(of_files.skipped);
    samples = std::move(of_files.samples);
    require_samples(samples, tasks, options.data[0]);
    grid["broken_lines"] = of_files.skipped.size();
  } else {
    if (ruler.questions > 1 && tasks.empty()) {
      notice(options, fmt::format("{} left out: their texts have one question",
                                  fmt::join(eval::ruler_one_question_tasks(), " and ")));
    }
    for (std::size_t i = 0; i < ruler.qa.size(); ++i) {
      const std::size_t n = ruler.qa[i].questions.size(), asked = ruler.samples * ruler.questions;
      if (n >= asked) continue;
      warn(
          fmt::format("{}: has {} questions, and {} are asked of each length: some are asked again, of other texts, so "
                      "that the intervals are narrower than so few questions allow",
                      options.qa[i], n, asked));
    }
    samples = eval::ruler_samples(evaluation.model(), ruler);
    grid = {{"lengths", ruler.lengths}, {"samples_each", ruler.samples}, {"seed", ruler.seed}};
  }
  if (!tasks.empty()) grid["tasks"] = tasks;
  if (options.limit) samples.resize(std::min(samples.size(), (std::size_t)(*options.limit)));
  grid["samples"] = samples.size();

  eval::Results results = evaluation.open_results(meaning, grid);
  const bool finished = evaluation.answer(samples, results);
  const nlohmann::json metrics =
      eval::answer_metrics("ruler", results.records(), evaluation.grid(), evaluation.beside());
  return evaluation.close(results, metrics, metrics_table(metrics, Terminal(STDOUT_FILENO, options.color)), finished);
}

}  // namespace lacake::cli
