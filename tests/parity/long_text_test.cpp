// A text many times the budget: memory does not grow, and rounding does not pile up.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "lacake/engine.h"
#include "lacake/memory.h"
#include "parity/texts.h"
#include "tools/divergence.h"
#include "tools/paths.h"
#include "tools/sanitized.h"

namespace lacake {
namespace {

struct Reading {
  double perplexity = 0;
  std::int64_t growth = 0;  // resident bytes, last reading minus the first after warm-up
};

// LaCache at a budget of 512 over the whole text in chunks of 64. Resident memory is read after each chunk; a tenth of
// the text is warm-up.
Reading read_through(const Model& model, std::span<const Token> tokens, const char* types) {
  constexpr std::size_t kChunk = 64;
  Engine engine(model, {.threads = 2});
  const auto session = engine.open({.policy = PolicySpec::parse("lacache"),
                                    .budget = Budget::parse("512"),
                                    .types = CacheTypes::parse(types),
                                    .prefill = PrefillMode::kStreaming,
                                    .chunk = kChunk,
                                    .prompt_tokens = tokens.size()});
  const std::size_t warm = tokens.size() / 10;
  double nll = 0;
  std::uint64_t first = 0, last = 0;
  const PrefillOptions hooks{.all_logits = [&](std::size_t i, std::span<const float> logits) {
    if (i + 1 < tokens.size()) nll += negative_log_likelihood(logits, tokens[i + 1]);
    if (i % kChunk != 0 || i < warm) return;
    last = resident_bytes();
    if (first == 0) first = last;
  }};
  session->prefill(tokens, hooks);
  const CacheUse use = session->use();
  EXPECT_LE(use.peak_bytes, use.budget_bytes);
  return {std::exp(nll / (double)(tokens.size() - 1)), (std::int64_t)last - (std::int64_t)first};
}

void expect_flat_and_equal(const Model& model, std::span<const Token> tokens) {
  const Reading f16 = read_through(model, tokens, "f16"), f32 = read_through(model, tokens, "f32");
  std::printf(
      "%zu tokens: perplexity %.4f with an f16 cache, %.4f with f32; resident memory grew by %lld and %lld bytes\n",
      tokens.size(), f16.perplexity, f32.perplexity, (long long)f16.growth, (long long)f32.growth);
  EXPECT_NEAR(f16.perplexity / f32.perplexity, 1, 0.005);
  if (kSanitized) GTEST_SKIP() << "growth of resident memory is not looked at: the sanitizer's own is in it";
  EXPECT_LT(f16.growth, 2 << 20);
  EXPECT_LT(f32.growth, 2 << 20);
}

// What a clone has at hand (under a sanitizer its first 1,500 tokens), in this order: WikiText-2 and multi_news as in
// the golden files, our licence and two of our own documents.
TEST(LongText, RunsInFlatMemoryAndRoundingDoesNotPileUp) {
  constexpr std::size_t kTokens = kSanitized ? 1500 : 10'000;
  const Model model(quantised_model());
  std::vector<Token> tokens = wikitext_and_news();
  for (const char* file : {"/../LICENSE", "/../CONTRIBUTING.md", "/../README.md"}) {
    const std::vector<Token> more = text_tokens(model, test_source_dir() + file);
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  ASSERT_GE(tokens.size(), kTokens);
  expect_flat_and_equal(model, std::span(tokens).first(kTokens));
}

// The same over ten times as much of a text that the user names.
TEST(Soak, RunsInFlatMemoryAndRoundingDoesNotPileUp) {
  constexpr std::size_t kTokens = 100'000;
  const char* path = std::getenv("LACAKE_SOAK_TEXT");
  if (path == nullptr) GTEST_SKIP() << "LACAKE_SOAK_TEXT names no text of 100,000 tokens";
  const Model model(quantised_model());
  const std::vector<Token> tokens = text_tokens(model, path);
  ASSERT_GE(tokens.size(), kTokens) << path;
  expect_flat_and_equal(model, std::span(tokens).first(kTokens));
}

}  // namespace
}  // namespace lacake
