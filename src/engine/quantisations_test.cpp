// Every quantisation that ggml can write: what our products make of it beside libllama.

#include <cmath>

#include "cpu/target.h"
#include "engine/test_session.h"
#include "matmul/bf16.h"
#include "matmul/int8.h"
#include "models/libllama_logits.h"

namespace lacake {
namespace {

constexpr std::size_t kTokens = 96, kPrompt = 64;

TinyModel model_of(ggml_type weights, ggml_type rounded) {
  return {.n_layer = 3,
          .n_embd = 256,
          .n_head = 8,
          .n_head_kv = 4,
          .d_k = 32,
          .d_v = 32,
          .n_ff = 512,
          .weights = weights,
          .rounded = rounded};
}

// Root of the mean square of what differs.
double difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size() || a.empty()) return INFINITY;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
  return std::sqrt(sum / (double)a.size());
}

// [n_vocab, kTokens]: a prompt by the kernels of many columns, then tokens by those of one.
Logits run(const ModelFile& file, const char* product, const Tokens& tokens) {
  const Model model(file.path(), {.product = product});
  Engine engine(model, {.threads = 1});
  return all_logits(engine, tokens, kPrompt, with("full", "", "f32", PrefillMode::kExact, kPrompt, kTokens - kPrompt));
}

class Quantisation : public testing::TestWithParam<ggml_type> {};

// Both round columns to 8 bits, each in its own way, so they differ from one another as they differ from the model in
// whose arithmetic nothing is rounded. How far libllama is from that is what we may be.
TEST_P(Quantisation, IsAsCloseToTheExactModelAsLibllamaIs) {
  const ModelFile quantised(model_of(GetParam(), GGML_TYPE_F32)), rounded(model_of(GGML_TYPE_F32, GetParam()));
  const Tokens tokens = random_tokens(model_of(GGML_TYPE_F32, GGML_TYPE_F32), kTokens, 1);
  const Logits exact = models::libllama_logits(rounded, tokens);
  const double theirs = difference(models::libllama_logits(quantised, tokens), exact);
  std::printf("%s: libllama %.1e", ggml_type_name(GetParam()), theirs);
  std::vector<const char*> products = {"ggml", "f32"};
  if (matmul::has_int8()) products.push_back("int8");
  if (matmul::has_bf16()) products.insert(products.end(), {"bf16", "bf16x3"});
  for (const char* product : products) {
    SCOPED_TRACE(product);
    const double ours = difference(run(quantised, product, tokens), exact);
    std::printf(", %s %.1e", product, ours);
    EXPECT_LE(ours, 1.1 * theirs + 1e-4);
  }
  std::printf("\n");
}

INSTANTIATE_TEST_SUITE_P(, Quantisation,
                         testing::Values(GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0,
                                         GGML_TYPE_Q5_1, GGML_TYPE_Q8_0, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K,
                                         GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ3_XXS, GGML_TYPE_IQ4_NL,
                                         GGML_TYPE_IQ4_XS, GGML_TYPE_TQ1_0, GGML_TYPE_TQ2_0, GGML_TYPE_MXFP4),
                         [](const auto& i) { return std::string(ggml_type_name(i.param)); });

}  // namespace
}  // namespace lacake
