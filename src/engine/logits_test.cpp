// The whole way of a prompt and of tokens, against libllama: logits of tiny models in every shape of the llama family.

#include "engine/test_session.h"
#include "models/libllama_logits.h"

namespace lacake {
namespace {

// Within `tolerance`, and with something to compare: logits that are not near 0. The first half is a prompt, the other
// comes token by token, so that both ways are seen.
void expect_close(const TinyModel& tiny, const char* policy = "full", float tolerance = 1e-3f) {
  const ModelFile file(tiny);
  const Tokens tokens = random_tokens(tiny, 64, 1);
  const Model model(file.path());
  Engine engine(model, {.threads = 1});
  const Logits truth = models::libllama_logits(file, tokens);
  const Logits found = all_logits(engine, tokens, 32, with(policy, "", "f32", PrefillMode::kExact, tokens.size()));
  EXPECT_LT(distance(found, truth), tolerance);
  EXPECT_GT(*std::ranges::max_element(truth), 3.0f);
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
