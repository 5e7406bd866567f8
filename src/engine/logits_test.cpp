// The whole way of a prompt and of tokens, against libllama: logits of tiny models in every shape of the llama family.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "lacake/engine.h"
#include "models/libllama_logits.h"
#include "models/tiny_model.h"

namespace lacake {
namespace {

using models::ModelFile;
using models::TinyModel;

// The first half as a prompt, the other token by token, so that both ways are seen.
std::vector<float> found(const ModelFile& file, const std::vector<Token>& tokens, const char* policy) {
  const Model model(file.path());
  Engine engine(model, {.threads = 1});
  const auto session = engine.open(
      {.policy = PolicySpec::parse(policy), .types = CacheTypes::parse("f32"), .prompt_tokens = tokens.size()});
  std::vector<float> logits;
  const auto add = [&](std::span<const float> row) { logits.insert(logits.end(), row.begin(), row.end()); };
  PrefillOptions hooks;
  hooks.all_logits = [&](std::size_t, std::span<const float> row) { add(row); };
  const std::size_t half = tokens.size() / 2;
  session->prefill({tokens.data(), half}, hooks);
  for (std::size_t i = half; i < tokens.size(); ++i) {
    session->step(tokens[i]);
    add(session->logits());
  }
  return logits;
}

// Within `tolerance`, and with something to compare: logits that are not near 0.
void expect_close(const TinyModel& tiny, const char* policy = "full", float tolerance = 1e-3f) {
  const ModelFile file(tiny);
  const std::vector<Token> tokens = models::random_tokens(tiny, 64, 1);
  const std::vector<float> a = libllama_logits(file, tokens), b = found(file, tokens, policy);
  ASSERT_EQ(a.size(), (std::size_t)tiny.n_vocab * tokens.size());
  ASSERT_EQ(a.size(), b.size());
  float difference = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(std::isfinite(b[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(a[i]));
  }
  EXPECT_LT(difference, tolerance);
  EXPECT_GT(largest, 3.0f);
}

TEST(Logits, AreLibllamasForEveryGrouping) {
  for (const int n_head_kv : {12, 4, 3, 1}) {
    SCOPED_TRACE(n_head_kv);
    expect_close({.n_embd = 48, .n_head = 12, .n_head_kv = n_head_kv, .d_k = 16, .d_v = 16});
  }
}

TEST(Logits, AreLibllamasForEveryHeadSize) {
  for (const int d : {32, 64, 80, 128}) {
    SCOPED_TRACE(d);
    expect_close({.n_embd = 64, .n_head = 4, .n_head_kv = 2, .d_k = d, .d_v = d});
  }
}

TEST(Logits, AreLibllamasForEveryRope) {
  for (const char* policy : {"full", "full:positions=compacted"}) {
    SCOPED_TRACE(policy);
    expect_close({.rope_freq_base = 500000}, policy);
    expect_close({.rope_linear_factor = 4}, policy);
    expect_close({.d_k = 32, .d_v = 32, .rope_factors = true}, policy);
    expect_close({.rope_freq_base = 1000, .rope_linear_factor = 2, .rope_factors = true}, policy);
  }
}

TEST(Logits, AreLibllamasWithBiasesAndAnOutputOfItsOwn) {
  expect_close({.biases = true});
  expect_close({.tied = false});
  expect_close({.tied = false, .biases = true, .seed = 2}, "full:positions=compacted");
}

// Products of f16 weights round their inputs to f16: a last bit that differs before is a thousandth after.
TEST(Logits, AreLibllamasForF16WeightsWithinTheirRounding) {
  expect_close({.n_embd = 64, .weights = GGML_TYPE_F16}, "full", 0.03f);
}

}  // namespace
}  // namespace lacake
