// The full cache against libllama, on the first 513 tokens of WikiText-2 (in the long runs 1,025), and against itself
// fed in other ways. Logits of a run are 101 MB: at most three runs stand in memory, others are compared as they come.

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "golden/golden_files.h"
#include "lacake/engine.h"
#include "parity/libllama.h"
#include "parity/long_run.h"
#include "tools/divergence.h"
#include "tools/model_files.h"

namespace lacake {
namespace {

const std::size_t kTokens = long_run() ? 1025 : 513;
constexpr int kThreads = 2;

std::vector<Token> wikitext() {
  const golden::Archive file(wikitext_file());
  const auto ids = file.i32("ids").first(kTokens);
  return {ids.begin(), ids.end()};
}

// The logits of every token of a run.
class Logits {
 public:
  void add(std::span<const float> logits) { values_.insert(values_.end(), logits.begin(), logits.end()); }
  std::span<const float> at(std::size_t i) const {
    const std::size_t n_vocab = values_.size() / kTokens;
    return {values_.data() + i * n_vocab, n_vocab};
  }

 private:
  std::vector<float> values_;
};

using EachToken = Libllama::EachToken;

EachToken keep_in(Logits& logits) {
  return [&logits](std::size_t, std::span<const float> l) { logits.add(l); };
}

// Holds what comes against `truth`.
EachToken compare(const Logits& truth, Divergence& divergence) {
  return [&](std::size_t i, std::span<const float> l) { divergence.add(truth.at(i), l); };
}

SessionOptions full_cache(const std::string& types) {
  return {.policy = PolicySpec::parse("full"), .types = CacheTypes::parse(types), .prompt_tokens = kTokens};
}

void run_prefill(const Model& model, std::span<const Token> tokens, const SessionOptions& options,
                 const EachToken& each) {
  Engine engine(model, {.threads = kThreads});
  engine.open(options)->prefill(tokens, {.all_logits = each});
}

class FullCache : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tokens_ = wikitext();
    model_ = std::make_unique<Model>(f32_model());
    libllama_ = std::make_unique<Libllama>(f32_model());
    libllama_->run(tokens_, {.cache = GGML_TYPE_F32, .threads = kThreads}, keep_in(theirs_));
    run_prefill(*model_, tokens_, full_cache("f32"), keep_in(ours_));
  }
  static void TearDownTestSuite() {
    model_.reset();
    libllama_.reset();
    ours_ = theirs_ = {};
  }

  static inline std::vector<Token> tokens_;
  static inline std::unique_ptr<Model> model_;        // F32
  static inline std::unique_ptr<Libllama> libllama_;  // the same file
  static inline Logits theirs_;                       // libllama, f32 cache, no flash attention
  static inline Logits ours_;                         // exact prefill, f32 cache
};

TEST_F(FullCache, InFloat32GivesLibllamasLogits) {
  Divergence d;
  for (std::size_t i = 0; i < kTokens; ++i) d.add(theirs_.at(i), ours_.at(i));
  std::printf("f32 cache: %s\n", d.text().c_str());
  EXPECT_LT(d.max_abs(), 1e-3) << d.text();
  EXPECT_LT(d.mean_kl(), 1e-8) << d.text();
  EXPECT_TRUE(d.same_top1_everywhere()) << d.text();
}

// Flash attention stands here only: libllama rounds an f32 cache to f16 for it.
TEST_F(FullCache, InFloat16GivesNearlyLibllamasLogits) {
  Logits ours;
  run_prefill(*model_, tokens_, full_cache("f16"), keep_in(ours));
  const Libllama::Settings plain{.threads = kThreads},
      flash{.flash_attention = true, .batch = 256, .ubatch = 128, .threads = kThreads};
  for (const Libllama::Settings& settings : {plain, flash}) {
    Divergence d;
    libllama_->run(tokens_, settings, [&](std::size_t i, std::span<const float> l) { d.add(l, ours.at(i)); });
    std::printf("f16 cache, libllama's flash attention %s: %s\n", settings.flash_attention ? "on" : "off",
                d.text().c_str());
    EXPECT_EQ(d.n(), kTokens);
    EXPECT_LT(d.mean_kl(), 5e-6) << d.text();
    EXPECT_GE(d.top1(), 0.998) << d.text();  // one of 513
  }
}

// libllama's own settings differ by more than we do from any of them, so both are held against the weights in F32.
TEST_F(FullCache, OfAQuantisedFileIsAsNearToTheTruthAsLibllamas) {
  const Libllama libllama(quantised_model());
  double best = INFINITY;
  for (const bool flash : {false, true}) {
    Divergence d;
    libllama.run(tokens_, {.flash_attention = flash, .threads = kThreads}, compare(theirs_, d));
    std::printf("libllama, quantised, flash attention %s: %s\n", flash ? "on" : "off", d.text().c_str());
    best = std::min(best, d.mean_kl());
  }
  const Model model(quantised_model());
  Divergence ours;
  run_prefill(model, tokens_, full_cache("f16"), compare(theirs_, ours));
  std::printf("lacake, quantised: %s\n", ours.text().c_str());
  EXPECT_EQ(ours.n(), kTokens);
  EXPECT_LE(ours.mean_kl(), 1.1 * best);
}

TEST_F(FullCache, IsTheSameHoweverTheTokensAreFed) {
  Divergence chunks, one_by_one;
  SessionOptions streaming = full_cache("f32");
  streaming.prefill = PrefillMode::kStreaming;
  streaming.chunk = 64;
  run_prefill(*model_, tokens_, streaming, compare(ours_, chunks));

  Engine engine(*model_, {.threads = kThreads});
  const auto session = engine.open(full_cache("f32"));
  for (std::size_t i = 0; i < kTokens; ++i) {
    session->step(tokens_[i]);
    one_by_one.add(ours_.at(i), session->logits());
  }
  std::printf("exact and chunks of 64: %s\n", chunks.text().c_str());
  std::printf("exact and one by one: %s\n", one_by_one.text().c_str());
  // Each is within half of the bar from the exact one, so all three are within it from each other.
  EXPECT_EQ(chunks.n(), kTokens);
  EXPECT_LT(chunks.max_abs(), 0.5e-3);
  EXPECT_LT(one_by_one.max_abs(), 0.5e-3);
}

}  // namespace
}  // namespace lacake
