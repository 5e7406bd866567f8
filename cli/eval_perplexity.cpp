// lacake eval perplexity: how likely a text is under each policy and budget.

#include "eval/perplexity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "eval.h"
#include "lacake/error.h"
#include "prompt.h"

namespace lacake::cli {
int eval_perplexity(const Options& options) {
  if (options.files.empty()) {
    throw Error(
        {.kind = Error::Kind::kUsage, .subject = "perplexity", .expected = "a text (-f FILE)", .found = "none"});
  }
  if (options.score_chunk && options.tokens) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "--tokens",
                 .expected = "no --chunk beside it, because it counts what is scored token by token",
                 .found = "one",
                 .remedy = "--limit N takes the first N chunks"});
  }
  std::vector<std::string> contents;
  nlohmann::json files = nlohmann::json::array();
  for (const std::string& path : options.files) {
    contents.push_back(read_text(path));
    const nlohmann::json file = file_json(path, contents.back());
    // Records are known by it.
    const auto same_name = [&](const nlohmann::json& other) { return other.at("name") == file.at("name"); };
    if (std::any_of(files.begin(), files.end(), same_name)) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "--file " + path,
                   .expected = "texts with names of their own",
                   .found = fmt::format("a second {}", file.at("name").get<std::string>())});
    }
    files.push_back(file);
    // As llama-perplexity reads a file.
    if (options.score_chunk && contents.back().ends_with('\n')) contents.back().pop_back();
  }
  Evaluation evaluation(options, "perplexity");
  const auto number = [](const auto& value) { return (std::size_t)value.value_or(0); };
  eval::PerplexityOptions scoring{.chunk = number(options.score_chunk),
                                  .tokens = number(options.tokens),
                                  .limit = number(options.limit),
                                  .most_cache_bytes = evaluation.most_cache_bytes(),
                                  .cells = evaluation.cells()};
  std::vector<eval::Text> texts;
  for (std::size_t i = 0; i < contents.size(); ++i) {
    if (scoring.chunk == 0 && scoring.limit > 0 && i == scoring.limit) break;
    texts.push_back({files[i].at("name"), evaluation.model().tokenize(contents[i], false, true)});
  }
  eval::Results results = evaluation.open_results(
      {{"texts", files}, {"chunk", scoring.chunk}, {"tokens", scoring.tokens}}, {{"limit", scoring.limit}});
  const bool finished = eval::run_perplexity(evaluation.model(), evaluation.engine(), evaluation.grid(), texts, scoring,
                                             evaluation.watch(), results);
  const nlohmann::json metrics = eval::perplexity_metrics(
      results.records(), evaluation.grid(), (std::size_t)options.window.value_or(256), evaluation.beside());
  return evaluation.close(results, metrics, metrics_table(metrics, Terminal(STDOUT_FILENO, options.color)), finished);
}

}  // namespace lacake::cli
