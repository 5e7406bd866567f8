// Entries of few bits, in a model whose keys and values have channels that stand out, as those of real models have.

#include <cmath>

#include "engine/test_session.h"

namespace lacake {
namespace {

constexpr std::size_t kTokens = 120, kPrompt = 90;

// Two channels of each key, which turn with each other, and one of each value are so many times as large, and what
// meets them so many times smaller: the model computes the same.
TinyModel with_outliers(float factor, int head_size = 64, int n_head_kv = 2) {
  TinyModel tiny = {
      .n_layer = 2, .n_embd = 64, .n_head = 4, .n_head_kv = n_head_kv, .d_k = head_size, .d_v = head_size, .n_ff = 64};
  tiny.change = [=](const std::string& name, std::vector<float>& values, std::int64_t ne0) {
    const auto ends = [&](const char* end) { return name.ends_with(end); };
    const bool of_keys = ends("attn_q.weight") || ends("attn_k.weight"), of_values = ends("attn_v.weight");
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t row = i / (std::size_t)ne0 % (std::size_t)head_size,
                        column = i % (std::size_t)ne0 % (std::size_t)head_size;
      if (of_keys && (row == 6 || row == 7)) values[i] *= ends("attn_k.weight") ? factor : 1 / factor;
      if (of_values && row == 5) values[i] *= factor;
      if (ends("attn_output.weight") && column == 5) values[i] /= factor;
    }
  };
  return tiny;
}

// The mean over all tokens of what one distribution says of the next token and the other does not.
double divergence(std::span<const float> truth, std::span<const float> logits, std::size_t n_vocab) {
  double sum = 0;
  for (std::size_t at = 0; at < truth.size(); at += n_vocab) {
    const auto log_sum = [&](std::span<const float> x) {
      double total = 0;
      for (std::size_t i = 0; i < n_vocab; ++i) total += std::exp((double)x[at + i]);
      return std::log(total);
    };
    const double p_sum = log_sum(truth), q_sum = log_sum(logits);
    for (std::size_t i = 0; i < n_vocab; ++i) {
      const double p = truth[at + i] - p_sum, q = logits[at + i] - q_sum;
      sum += std::exp(p) * (p - q);
    }
  }
  return sum / (double)(truth.size() / n_vocab);
}

double divergence_of(Loaded& loaded, Engine& engine, const std::string& policy, const std::string& types,
                     PrefillMode mode = PrefillMode::kExact) {
  const Tokens tokens = random_tokens(loaded.tiny, kTokens, 5);
  const auto run = [&](Engine& e, const std::string& t) {
    SessionOptions options = with(policy, "", t, mode, kPrompt, kTokens - kPrompt);
    options.chunk = 37;
    return all_logits(e, tokens, kPrompt, options);
  };
  return divergence(run(loaded.engine, "f32"), run(engine, types), (std::size_t)loaded.tiny.n_vocab);
}

// Not mixed, they are 0.029, 0.017 and 0.0080 here with policy full: what stands out takes the others' steps.
TEST(FewBits, ChannelsThatStandOutCostNothing) {
  Loaded plain(with_outliers(1)), outliers(with_outliers(12));
  Engine f32(outliers.model, {.threads = 2, .attention = "f32"}), composed(outliers.model, {.attention = "ggml"});
  for (const auto& [types, most] : {std::pair("q4_0", 0.02), {"q4_0,f16", 0.016}, {"f16,q4_0", 0.004}}) {
    for (const char* policy : {"full", "full:positions=compacted"}) {
      for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
        SCOPED_TRACE(std::string(types) + " " + policy + " " + prefill_name(mode));
        EXPECT_LT(divergence_of(plain, plain.engine, policy, types, mode), most / 2);
        for (Engine* engine : {&outliers.engine, &f32, &composed}) {
          const double with_them = divergence_of(outliers, *engine, policy, types, mode);
          EXPECT_LT(with_them, most);
        }
      }
    }
  }
}

// What norms make large in keys and small in queries, and what biases make all keys have in common.
TinyModel with_sizes(const char* architecture, float factor) {
  TinyModel tiny = with_outliers(1);
  tiny.architecture = architecture;
  tiny.biases = true;
  tiny.change = [=](const std::string& name, std::vector<float>& values, std::int64_t) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t channel = i % 64;
      if (name.ends_with("attn_k_norm.weight") && channel % 32 == 9) values[i] *= factor;
      if (name.ends_with("attn_q_norm.weight") && channel % 32 == 9) values[i] /= factor;
      if (name.ends_with("attn_k.bias") && channel % 32 > 25) values[i] += factor;
    }
  };
  return tiny;
}

TEST(FewBits, WhatNormsAndBiasesOfKeysMakeLargeCostsNothing) {
  for (const char* architecture : {"qwen2", "qwen3", "gemma3"}) {
    SCOPED_TRACE(architecture);
    Loaded plain(with_sizes(architecture, 1)), large(with_sizes(architecture, 20));
    Engine composed(large.model, {.attention = "ggml"});
    for (const char* policy : {"full", "full:positions=compacted"}) {
      for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
        for (const char* types : {"q4_0", "q8_0"}) {
          SCOPED_TRACE(std::string(types) + " " + policy + " " + prefill_name(mode));
          const double without = divergence_of(plain, plain.engine, policy, types, mode);
          for (Engine* engine : {&large.engine, &composed}) {
            const double with_them = divergence_of(large, *engine, policy, types, mode);
            EXPECT_LT(with_them, 4 * without);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace lacake
