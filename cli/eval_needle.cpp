// lacake eval needle: facts hidden in long texts, by length and depth.

#include "eval/needle.h"

#include <fmt/format.h>
#include <unistd.h>

#include "eval.h"
#include "eval/charts.h"
#include "lacake/error.h"
#include "picture.h"
#include "prompt.h"

namespace lacake::cli {

int eval_needle(const Options& options) {
  if (options.files.size() > 1) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "--file",
                 .expected = "one haystack",
                 .found = fmt::format("{}", options.files.size())});
  }
  eval::NeedleOptions needle;
  for (const std::int64_t length : options.lengths) needle.lengths.push_back((std::size_t)length);
  if (needle.lengths.empty()) needle.lengths = {1024, 2048, 4096};
  needle.depths = (std::size_t)options.n_depths.value_or(11);
  needle.seeds = (std::size_t)options.n_seeds.value_or(5);
  needle.first_seed = (std::uint64_t)(std::max<std::int64_t>(options.seed.value_or(0), 0));
  needle.needles = (std::size_t)options.needles.value_or(1);
  needle.questions = (std::size_t)options.n_questions.value_or(1);
  if (options.key) needle.key = eval::KeyForm::parse(*options.key);

  nlohmann::json meaning = {{"question", options.question}};
  if (options.key) meaning["key"] = needle.key.text();
  if (needle.questions > 1) meaning["questions"] = needle.questions;
  std::string haystack;
  if (!options.files.empty()) {
    haystack = read_text(options.files[0]);
    meaning["haystack"] = file_json(options.files[0], haystack);
    if (needle.questions == 1) meaning["needles"] = needle.needles;
  }
  Evaluation evaluation(options, "needle");
  std::vector<eval::Sample> samples = options.files.empty()
                                          ? eval::passkey_samples(evaluation.model(), needle)
                                          : eval::haystack_samples(evaluation.model(), haystack, needle);
  if (options.limit) samples.resize(std::min(samples.size(), (std::size_t)(*options.limit)));
  eval::Results results = evaluation.open_results(meaning, {{"lengths", needle.lengths},
                                                            {"depths", needle.depths},
                                                            {"seeds", needle.seeds},
                                                            {"seed", needle.first_seed},
                                                            {"samples", samples.size()}});
  const bool finished = evaluation.answer(samples, results);
  const nlohmann::json metrics =
      eval::answer_metrics("needle", results.records(), evaluation.grid(), evaluation.beside());
  std::string text = metrics_table(metrics, Terminal(STDOUT_FILENO, options.color));
  const auto maps = eval::heat_maps(metrics);
  for (const eval::HeatMap& map : maps) text += "\n" + eval::heat_map_text(map, utf8_locale());
  if (!maps.empty()) {
    const draw::Drawing drawing = eval::heat_map_drawing(maps);
    results.write("heatmap.svg", draw::svg(drawing));
    if (const std::string bytes = png(drawing); !bytes.empty()) results.write("heatmap.png", bytes);
  }
  return evaluation.close(results, metrics, text, finished);
}

}  // namespace lacake::cli
