// lacake calibrate: learned scores of a model, from texts.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>

#include "base/stopwatch.h"
#include "checks.h"
#include "commands.h"
#include "interrupt.h"
#include "lacake/calibration.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "library_options.h"
#include "named_files.h"
#include "output.h"
#include "prompt.h"
#include "report.h"
#include "saved.h"
#include "terminal.h"

namespace lacake::cli {
namespace {

std::vector<CalibrationText> read_texts(const std::vector<std::string>& paths) {
  std::vector<CalibrationText> texts;
  for (const std::string& path : paths) {
    const std::string name = path == "-" ? path : path.substr(path.rfind('/') + 1);
    texts.push_back({name, read_text(path)});
  }
  return texts;
}

std::string quality_line(const CalibrationFacts& facts, const Terminal& terminal) {
  const auto [least, most] = std::minmax_element(facts.r2.begin(), facts.r2.end());
  return fmt::format("{} on {} tokens that were held out (by layer {:.3f} to {:.3f})",
                     terminal.paint(Style::kBold, fmt::format("R2 {:.3f}", facts.mean_r2())), facts.n_held_out, *least,
                     *most);
}

}  // namespace

int calibrate(const Options& options) {
  if (options.files.empty()) {
    throw Error(
        {.kind = Error::Kind::kUsage, .subject = "--file", .expected = "a text (-f book.txt)", .found = "none"});
  }
  const std::string output = options.output.value_or(calibration_path(options.model));
  require_writable(output, "--output");
  require_apart({{"--output", output}}, files_read(options, kCalibrate));
  const std::vector<CalibrationText> texts = read_texts(options.files);
  const Terminal terminal(STDERR_FILENO, options.color);
  watch_interrupt();

  Model::Options opened = model_options(options);
  opened.calibration = Model::Options::kNoCalibration;
  const Model model(options.model, opened);
  Engine engine(model, engine_options(options));
  ProgressBar bar(terminal, "learning", options.quiet || options.json);
  CalibrationOptions learning;
  if (options.learned_chunk) learning.chunk = (std::size_t)(*options.learned_chunk);
  learning.tokens = (std::size_t)options.tokens.value_or(0);
  learning.progress = [&](double done, double total) {
    const auto tokens = [&](double pieces) { return (std::size_t)(pieces * (double)learning.chunk); };
    bar.show(tokens(done), tokens(total));
    return !interrupted();
  };
  std::vector<std::string> names;
  for (const CalibrationText& text : texts) names.push_back(text.name);
  notice(options, fmt::format("learning from {}, for {}", fmt::join(names, ", "), output));
  const Stopwatch watch;
  const std::optional<Calibration> learned = lacake::calibrate(model, engine, texts, learning);
  if (!learned) return kInterruptedStatus;
  const double learn_ms = watch.ms();
  learned->save(output);

  const CalibrationFacts facts = learned->facts();
  if (options.json) {
    write_output(json_line({{"schema", 1},
                            {"model", model.facts().name},
                            {"file", output},
                            {"calibration", calibration_json(facts)},
                            {"time", {{"learn_ms", learn_ms}}},
                            {"memory", {{"peak_rss_bytes", peak_resident_bytes()}}},
                            {"options", options_json(options, kCalibrate)}}));
  }
  const auto n_read = (double)(facts.n_tokens + facts.n_held_out);
  notice(options, fmt::format("{} tokens of {} learned from at {:.1f} tokens/s; {}; file {}; peak memory {}",
                              facts.n_tokens, fmt::join(facts.texts, ", "), 1e3 * n_read / learn_ms,
                              quality_line(facts, terminal), output, bytes_text(peak_resident_bytes())));
  return 0;
}

}  // namespace lacake::cli
