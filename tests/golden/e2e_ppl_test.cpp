// Perplexity token by token on the real model, against main() of the official ppl/run.py: every golden file with `nll`.
// All files' sessions step together, so that the weights are read once a step.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>

#include "golden/golden_files.h"
#include "lacake/engine.h"
#include "policies/lacache/ladder.h"
#include "property/simulated_cache.h"
#include "tools/divergence.h"
#include "tools/model_files.h"

namespace lacake {
namespace {

constexpr int kThreads = 2;
// Tokens of the shorter runs. On the F32 file: enough that the largest cache of the files, 512 entries, evicts again
// and again. On the quantised file, whose perplexity is held to a percent: those of ppl_1024.
constexpr std::size_t kShort = 577, kQuantised = 1025;
constexpr std::size_t kAll = SIZE_MAX;

bool is_case(const golden::Archive& file) {
  return file.architecture() == "golden" && file.has("nll") && file.has("ids");
}

// A file, and what our own run of it gave so far.
struct TextRun {
  std::string name;
  golden::Archive file;
  std::size_t streaming_llm = 0;  // not 0: StreamingLLM of this cache size on the file's text, instead of what it says
  std::unique_ptr<Session> session = nullptr;
  std::vector<double> nll = {};

  bool evicts() const { return file.has_key("lacache.cache_size"); }
  std::span<const std::int32_t> ids() const { return file.i32("ids"); }
  std::size_t n_tokens(std::size_t most) const { return std::min(most, file.f32("nll").size()); }

  // Where the official script's query drifts from its own key, the file says so by what it lacks.
  PolicySpec policy(const AttentionShape& shape) const {
    if (streaming_llm > 0)
      return PolicySpec::parse("streaming-llm:sinks=4,cache_size=" + std::to_string(streaming_llm));
    if (!evicts()) return PolicySpec::parse("full");
    PolicySpec spec = PolicySpec::parse("lacache");
    spec.cache_size = file.size("lacache.cache_size");
    spec.settings["span"] = file.number("lacache.span");
    spec.settings["overlap"] = file.number("lacache.overlap");
    spec.settings["sinks"] = file.number("lacache.start_size");
    const lacache::Ladder ladder = lacache::ladder_of({.n_layer = (std::size_t)shape.n_layer,
                                                       .span = file.size("lacache.span"),
                                                       .overlap = file.size("lacache.overlap")});
    const bool own = file.has("query_position") || ladder.removed == 1;
    return PolicySpec::parse(spec.text() + (own ? ",query=own" : ",query=script"));
  }

  double perplexity() const {
    double sum = 0;
    for (const double x : nll) sum += x;
    return std::exp(sum / (double)nll.size());
  }
  double official_perplexity() const {
    double sum = 0;
    for (const float x : file.f32("nll").first(nll.size())) sum += x;
    return std::exp(sum / (double)nll.size());
  }
};

std::vector<TextRun> cases() {
  std::vector<TextRun> runs;
  for (const auto& path : golden::files(".gguf")) {
    if (golden::Archive file(path); is_case(file)) runs.push_back({path.filename().string(), std::move(file)});
  }
  return runs;
}

// Of the query that comes next.
void expect_query_position(const TextRun& run, std::size_t t) {
  if (!run.file.has("query_position") || t >= run.n_tokens(kAll)) return;
  const std::size_t n_kept = run.session->use().entries_per_layer[0];
  ASSERT_EQ(simulation::query_position(run.session->policy(), 0, n_kept), run.file.i32("query_position")[t])
      << "token " << t;
}

void expect_logits(const TextRun& run, std::size_t t) {
  const auto steps = run.file.i32("logits.steps");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if ((std::size_t)steps[i] != t) continue;
    const std::size_t n_vocab = run.file.row_size("logits");
    Divergence d;
    d.add(run.file.f32("logits").subspan(i * n_vocab, n_vocab), run.session->logits());
    EXPECT_LE(d.max_abs(), run.evicts() ? 5e-3 : 1e-3) << run.name << ", logits after token " << t;
  }
}

void print(const TextRun& run) {
  std::printf("%-48s %5zu tokens: perplexity %9.4f, official %9.4f\n", run.name.c_str(), run.nll.size(),
              run.perplexity(), run.official_perplexity());
}

void expect_official(const TextRun& run) {
  SCOPED_TRACE(run.name);
  print(run);
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t t = 0; t < run.nll.size(); ++t) {
    const double difference = std::abs(run.nll[t] - (double)run.file.f32("nll")[t]);
    if (!(difference <= worst)) worst = difference, at = t;
  }
  EXPECT_LE(worst, run.evicts() ? 2e-3 : 5e-4) << "at token " << at;
  EXPECT_NEAR(run.perplexity() / run.official_perplexity(), 1, run.evicts() ? 1e-4 : 3e-5);
  // The figure that the official script printed, where this run ends where it did.
  const std::string printed = "ppl_" + std::to_string(run.nll.size() - 1);
  if (run.file.has_key(printed)) {
    EXPECT_NEAR(run.perplexity() / run.file.number(printed), 1, run.evicts() ? 1e-4 : 3e-5) << printed;
  }
}

class EndToEndPerplexity : public testing::Test {
 protected:
  void SetUp() override { ASSERT_FALSE(runs_.empty()) << "no file with nll in " << golden::folder(); }

  void open(const std::string& model, std::size_t most) {
    model_ = std::make_unique<Model>(model);
    engine_ = std::make_unique<Engine>(*model_, Engine::Options{.threads = kThreads});
    for (TextRun& run : runs_) {
      run.session = engine_->open({.policy = run.policy(model_->facts().attention),
                                   .types = CacheTypes::parse("f32"),
                                   .new_tokens = run.n_tokens(most)});
    }
  }

  // Feeds the texts to all sessions, one token each a step, `most` tokens at most. `each` sees a run after its token t.
  template <typename Each>
  void step_together(std::size_t most, const Each& each) {
    for (std::size_t t = 0;; ++t) {
      std::vector<Engine::Next> batch;
      for (TextRun& run : runs_) {
        if (t < run.n_tokens(most)) batch.push_back({run.session.get(), run.ids()[t]});
      }
      if (batch.empty()) return;
      engine_->step(batch);
      for (TextRun& run : runs_) {
        if (t >= run.n_tokens(most)) continue;
        run.nll.push_back(negative_log_likelihood(run.session->logits(), run.ids()[t + 1]));
        each(run, t);
      }
      if (HasFatalFailure()) return;
    }
  }

  // Sessions go before their engine, the engine before its model.
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
  std::vector<TextRun> runs_ = cases();
};

void expect_token(const TextRun& run, std::size_t t) {
  if (run.streaming_llm > 0) return;
  expect_logits(run, t);
  expect_query_position(run, t + 1);
}

TEST_F(EndToEndPerplexity, OfTheFirstTokensIsTheOfficialOne) {
  open(f32_model(), kShort);
  step_together(kShort, expect_token);
  for (const TextRun& run : runs_) expect_official(run);
}

TEST_F(EndToEndPerplexity, OfTheQuantisedFileIsWithinAPercent) {
  open(quantised_model(), kQuantised);
  step_together(kQuantised, [](const TextRun&, std::size_t) {});
  for (const TextRun& run : runs_) {
    print(run);
    EXPECT_NEAR(run.perplexity() / run.official_perplexity(), 1, 0.01) << run.name;
  }
}

class EndToEndPerplexityLong : public EndToEndPerplexity {};

// Beside the files, the papers' comparison: StreamingLLM of the same cache sizes. The official code offers no such run;
// these figures are of a replay in its loop, over the 4,097 tokens of the wikitext2 files.
TEST_F(EndToEndPerplexityLong, OfAllTokensIsTheOfficialOneAndThatOfStreamingLlmAReplays) {
  const std::map<std::size_t, double> replayed = {{256, 24.20}, {512, 20.84}};
  for (const auto& [size, perplexity] : replayed) {
    runs_.push_back({"streaming-llm " + std::to_string(size), golden::Archive(wikitext_file()), size});
  }
  open(f32_model(), kAll);
  step_together(kAll, expect_token);
  std::printf("%-48s %10s %12s %12s\n", "", "cache size", "perplexity", "expected");
  for (const TextRun& run : runs_) {
    const double expected = run.streaming_llm > 0 ? replayed.at(run.streaming_llm) : run.official_perplexity();
    const std::size_t size = run.streaming_llm > 0 ? run.streaming_llm
                             : run.evicts()        ? run.file.size("lacache.cache_size")
                                                   : run.nll.size();
    std::printf("%-48s %10zu %12.3f %12.3f\n", run.name.c_str(), size, run.perplexity(), expected);
    if (run.streaming_llm > 0) {
      EXPECT_NEAR(run.perplexity() / expected, 1, 0.005) << run.name;
    } else {
      expect_official(run);
    }
  }
}

}  // namespace
}  // namespace lacake
