#include "bench_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "base/stopwatch.h"
#include "engine/bench.h"
#include "interrupt.h"
#include "lacake/generation.h"
#include "lacake/memory.h"

namespace lacake::cli {
namespace {

constexpr std::size_t kPart = 8192;
constexpr std::size_t kSample = 512;
constexpr double kWarmMs = 100;
constexpr std::size_t kMostWarmTokens = 256;

// Linux forgets the highest resident size when asked; elsewhere the peak is that of all cases so far.
void forget_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// Progress of a prefill, as ms by tokens done, cut into parts of kPart tokens.
class Parts {
 public:
  void add(std::size_t done, double ms) { marks_.push_back({done, ms}); }

  std::vector<PrefillPart> cut(std::size_t total) const {
    std::vector<PrefillPart> parts;
    for (std::size_t from = 0; from + kPart <= total; from += kPart) {
      const double ms = at(from + kPart) - at(from);
      parts.push_back({from, from + kPart, ms / (double)kPart});
    }
    return parts;
  }

 private:
  struct Mark {
    std::size_t done;
    double ms;
  };

  // Between two marks time goes evenly.
  double at(std::size_t done) const {
    Mark before{0, 0};
    for (const Mark& mark : marks_) {
      if (mark.done >= done && mark.done > before.done) {
        const double share = (double)(done - before.done) / (double)(mark.done - before.done);
        return before.ms + share * (mark.ms - before.ms);
      }
      before = mark;
    }
    return before.ms;
  }

  std::vector<Mark> marks_;
};

// Milliseconds that policies take from here on.
class PolicyMs {
 public:
  explicit PolicyMs(Engine& engine) : engine_(engine), begin_(policy_seconds(engine)) {}
  double now() const { return (policy_seconds(engine_) - begin_) * 1e3; }

 private:
  Engine& engine_;
  double begin_;
};

}  // namespace

double Spread::median() const {
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t n = sorted.size();
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}
double Spread::min() const { return *std::min_element(values.begin(), values.end()); }
double Spread::max() const { return *std::max_element(values.begin(), values.end()); }

Bench::Bench(const Model& model, Engine& engine, std::vector<Token> text, const Terminal& terminal, bool quiet)
    : model_(model), engine_(engine), text_(std::move(text)), terminal_(terminal), quiet_(quiet) {}

std::vector<Token> Bench::tokens(std::size_t from, std::size_t n) const {
  std::vector<Token> result(n);
  for (std::size_t i = 0; i < n; ++i) result[i] = text_[(from + i) % text_.size()];
  return result;
}

bool Bench::prepare(std::size_t n_prompt, bool synthetic) {
  const std::size_t n = std::max(synthetic ? kSample : 0, std::min(n_prompt, kSample));
  // Unrotated keys in f32, whatever the cases store: those that are drawn from them are turned and rounded later.
  SessionOptions options{.policy = PolicySpec::parse("full:positions=compacted"),
                         .types = CacheTypes::parse("f32"),
                         .prompt_tokens = std::max<std::size_t>(n, 1),
                         .new_tokens = 2};
  const auto session = engine_.open(options);
  if (n > 0 && !feed(*session, n, "warming up")) return false;
  if (synthetic) sample_.emplace(*session);
  for (int i = 0; i < 2; ++i) session->step(text_[0]);
  return !interrupted();
}

std::optional<BenchResult> Bench::measure(const BenchCase& what) {
  BenchResult result{.what = what, .plan = engine_.plan(what.session)};
  forget_peak();
  for (std::size_t i = 0; i < what.repetitions; ++i) {
    // At depth 0 both start from nothing; elsewhere the prompt follows the few tokens that came one by one.
    auto session = engine_.open(what.session);
    if (what.depth > 0 && !fill(*session, what, result)) return {};
    if (what.n_gen > 0 && !decode(*session, what, result)) return {};
    if (what.n_gen > 0) result.use = session->use();
    if (what.n_prompt == 0) continue;
    if (what.depth == 0 && what.n_gen > 0) {
      session.reset();
      session = engine_.open(what.session);
    }
    if (!prefill(*session, what, result)) return {};
    if (what.n_gen == 0) result.use = session->use();
  }
  result.peak_bytes = peak_resident_bytes();
  if (sample_) result.sample_bytes = sample_->bytes();
  return result;
}

bool Bench::fill(Session& session, const BenchCase& what, BenchResult& result) {
  const Stopwatch watch;
  bool done = false;
  if (what.synthetic) {
    ProgressBar bar(terminal_, fmt::format("{}: making up {} tokens", what.session.policy.type->name, what.depth),
                    quiet_);
    PrefillOptions hooks;
    hooks.progress = [&](std::size_t n, std::size_t total) {
      bar.show(n, total);
      return !interrupted();
    };
    done = fill_synthetic(engine_, session, *sample_, what.depth, hooks);
  } else {
    done = feed(session, what.depth, fmt::format("{}: reading {} tokens", what.session.policy.type->name, what.depth));
  }
  if (done) result.fill_ms.values.push_back(watch.ms());
  return done;
}

bool Bench::prefill(Session& session, const BenchCase& what, BenchResult& result) {
  Parts parts;
  const PolicyMs policy(engine_);
  const Stopwatch watch;
  const auto mark = [&](std::size_t done) { parts.add(done, watch.ms()); };
  if (!feed(session, what.n_prompt, fmt::format("{} at {}: prompt", what.session.policy.type->name, what.depth),
            mark)) {
    return false;
  }
  result.prefill_ms.values.push_back(watch.ms() / (double)what.n_prompt);
  result.prefill_policy_ms.values.push_back(policy.now() / (double)what.n_prompt);
  if (what.session.prefill == PrefillMode::kStreaming) result.parts = parts.cut(what.n_prompt);
  return true;
}

// Reading a depth leaves weights in the caches, making one up does not, and writes over what was there: without this,
// tokens after a made-up depth of 8,192 took a tenth longer at first.
void Bench::warm_up() {
  const auto session = engine_.open({.policy = PolicySpec::parse("full"), .new_tokens = kMostWarmTokens});
  const Stopwatch watch;
  for (std::size_t i = 0; i < kMostWarmTokens && watch.ms() < kWarmMs && !interrupted(); ++i) {
    session->step(text_[0]);
  }
}

bool Bench::decode(Session& session, const BenchCase& what, BenchResult& result) {
  ProgressBar bar(terminal_, fmt::format("{} at {}: tokens", what.session.policy.type->name, what.depth), quiet_);
  const std::vector<Token> next = tokens(what.depth, what.n_gen + 1);
  warm_up();
  session.step(next[0]);  // not timed: the first step of a session makes tables and buffers
  const PolicyMs policy(engine_);
  Stopwatch token;
  double sum_ms = 0;
  for (std::size_t i = 0; i < what.n_gen; ++i) {
    if (interrupted()) return false;
    session.step(next[i + 1]);
    const double ms = token.restart_ms();
    sum_ms += ms;
    result.slowest_token_ms = std::max(result.slowest_token_ms, ms);
    bar.show(i + 1, what.n_gen);
  }
  result.decode_ms.values.push_back(sum_ms / (double)what.n_gen);
  result.decode_policy_ms.values.push_back(policy.now() / (double)what.n_gen);
  return true;
}

bool Bench::feed(Session& session, std::size_t n, const std::string& label,
                 const std::function<void(std::size_t)>& on_progress) {
  ProgressBar bar(terminal_, label, quiet_);
  PrefillOptions hooks;
  hooks.progress = [&](std::size_t done, std::size_t total) {
    if (on_progress) on_progress(done);
    bar.show(done, total);
    return !interrupted();
  };
  const std::vector<Token> prompt = tokens(session.tokens().size(), n);
  Session* const sessions[] = {&session};
  hooks.probes = repeat_probes(model_, sessions, prompt, {.first = 0, .last = n, .chat = false});
  return session.prefill(prompt, hooks);
}

}  // namespace lacake::cli
