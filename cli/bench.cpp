// lacake bench: speed at given depths, policies and budgets.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "bandwidth.h"
#include "bench_measure.h"
#include "bench_report.h"
#include "bench_text.h"
#include "checks.h"
#include "commands.h"
#include "engine/bench.h"
#include "grid.h"
#include "interrupt.h"
#include "lacake/error.h"
#include "library_options.h"
#include "output.h"
#include "prompt.h"
#include "report.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

constexpr std::size_t kReadAnyway = 512;  // up to this depth --fill auto reads: it takes no longer than making up

std::vector<SessionOptions> sessions(const Options& options) {
  std::vector<SessionOptions> result;
  const std::vector<eval::Configuration> grid = grid_of(options);
  check_budgets(options, grid);
  for (const eval::Configuration& cell : grid) {
    result.push_back(session_options(options));
    result.back().policy = cell.policy;
    result.back().budget = cell.budget;
  }
  return result;
}

// Depth by depth, so that what is compared is measured together.
std::vector<BenchCase> cases(const Options& options) {
  std::vector<BenchCase> result;
  const std::vector<SessionOptions> all = sessions(options);
  const std::vector<std::int64_t> depths = options.depths.empty() ? std::vector<std::int64_t>{0} : options.depths;
  for (const std::int64_t depth : depths) {
    for (const SessionOptions& session : all) {
      BenchCase c{.session = session,
                  .depth = (std::size_t)depth,
                  .n_prompt = (std::size_t)options.n_prompt.value_or(512),
                  .n_gen = (std::size_t)options.n_gen.value_or(32),
                  .repetitions = (std::size_t)options.repetitions.value_or(3)};
      c.synthetic = c.depth > 0 && (options.fill == "synthetic" || (options.fill == "auto" && c.depth > kReadAnyway));
      // A share refers to what a conversation of this depth was: its depth, or its prompt where it only begins.
      c.session.prompt_tokens = std::max<std::size_t>(c.depth > 0 ? c.depth : c.n_prompt, 1);
      c.session.new_tokens = c.n_gen + 1 + (c.depth > 0 ? c.n_prompt : 0);
      result.push_back(c);
    }
  }
  return result;
}

// Throws Error(kUsage) where the model's positions end before the case does. A few tokens after a depth do not count.
void check_length(const BenchCase& c, const Model& model) {
  const std::size_t length = std::max(c.depth, c.n_prompt);
  const auto trained = (std::size_t)model.facts().training_length;
  if (length <= trained) return;
  const PolicyType& type = *c.session.policy.type;
  const AttentionShape shape = model.facts().policy_attention();  // the layers that a policy sees
  const bool index = type.bounded && c.session.prefill == PrefillMode::kStreaming &&
                     c.session.policy.positions(shape) == Positions::kCompacted;
  if (index) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = fmt::format("{} {}", c.depth >= c.n_prompt ? "--depth" : "--n-prompt", length),
               .expected = fmt::format("at most the model's training length {}", trained),
               .found = fmt::format("more under policy {} and {} prefill", type.name, prefill_name(c.session.prefill)),
               .remedy = "--beyond-training measures it all the same"});
}

std::vector<Token> text_tokens(const Model& model, const Options& options) {
  const std::string text = options.file ? read_text(*options.file) : std::string(kBenchText);
  std::vector<Token> tokens = model.tokenize(text, false, true);
  constexpr std::size_t kLeast = 2 * EntrySample::kFirst;
  if (tokens.size() < kLeast) {
    throw Error({.subject = options.file.value_or("text"),
                 .expected = fmt::format("a text of {} tokens or more", kLeast),
                 .found = fmt::format("{}", tokens.size())});
  }
  return tokens;
}

}  // namespace

int bench(const Options& options) {
  const std::vector<BenchCase> all = cases(options);
  if (all.front().n_prompt == 0 && all.front().n_gen == 0) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "--n-prompt and --n-gen",
                 .expected = "something to measure",
                 .found = "0 and 0"});
  }
  const Terminal out(STDOUT_FILENO, options.color), log(STDERR_FILENO, options.color);
  watch_interrupt();
  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  std::vector<Token> text = text_tokens(model, options);
  allow_any_length(engine);  // also for the few tokens after a depth that is the model's length
  for (const BenchCase& c : all) {
    if (!options.beyond_training) check_length(c, model);
    (void)engine.plan(c.session);
  }
  if (const std::string fault = build_fault(); !fault.empty()) {
    warn(fmt::format("warning: this lacake was built {} ({}): its speed says nothing", fault, build_type()));
  }

  const BenchSetting setting{.facts = model.facts(),
                             .threads = engine.threads(),
                             .machine_gb_per_s = read_bandwidth(engine.threads()),
                             .weight_bytes = weight_bytes_per_step(engine),
                             .attention = attention_in_use(engine, all.front().session.types)};
  if (!options.json) write_output(bench_heading(setting, out));
  nlohmann::json list = nlohmann::json::array();
  Bench bench(model, engine, std::move(text), log, options.quiet);
  const bool synthetic = std::any_of(all.begin(), all.end(), [](const BenchCase& c) { return c.synthetic; });
  bool going = bench.prepare(all.front().n_prompt, synthetic);
  for (std::size_t i = 0; going && i < all.size(); ++i) {
    const auto result = bench.measure(all[i]);
    going = result.has_value();
    if (!going) break;
    list.push_back(bench_json(*result, setting));
    if (!options.json) write_output(bench_row(*result, setting, out));
  }
  if (options.json) write_output(json_line(list));
  if (!options.json && synthetic) write_output("\n* made-up entries, drawn from those of a short prompt\n");
  return going ? 0 : kInterruptedStatus;
}

}  // namespace lacake::cli
