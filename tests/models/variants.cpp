#include <stdexcept>

#include "models/tiny_model.h"

namespace lacake::models {

std::vector<Variant> variants() {
  // Families whose projections libllama expects to be as wide as the model.
  const auto square = [](TinyModel m) {
    m.n_embd = m.n_head * m.d_k;
    return m;
  };
  const TinyModel phi{.architecture = "phi3", .n_head = 4, .n_head_kv = 2, .d_k = 16, .d_v = 16};
  TinyModel phi_long = square(phi);
  phi_long.rope_scaling = "longrope";
  phi_long.rope_attn_factor = 1.19;
  phi_long.n_ctx_orig = 128;
  phi_long.long_short_factors = true;
  TinyModel phi_short = phi_long;
  phi_short.n_ctx_orig = 1024;
  TinyModel phi_partial = square(phi);
  phi_partial.n_rot = 12;

  const TinyModel gemma2{.architecture = "gemma2",
                         .n_layer = 4,
                         .n_head_kv = 2,
                         .d_k = 24,
                         .d_v = 24,
                         .window = 20,
                         .attention_softcap = 5,
                         .output_softcap = 6};
  const TinyModel gemma3{
      .architecture = "gemma3", .n_layer = 12, .n_head = 4, .n_head_kv = 1, .rope_freq_base = 1000000, .window = 33};
  TinyModel gemma3_scaled = gemma3;
  gemma3_scaled.rope_linear_factor = 8;
  gemma3_scaled.n_layer = 4;
  gemma3_scaled.slides = {true, false, true, false};
  gemma3_scaled.output_softcap = 4;
  gemma3_scaled.rope_freq_base_sliding = 5000;

  TinyModel olmo2 = square({.architecture = "olmo2", .n_head = 5, .n_head_kv = 5, .d_k = 12, .d_v = 12, .tied = false});
  TinyModel olmo3 = olmo2;
  olmo3.n_layer = 8;
  olmo3.window = 17;
  olmo3.rope_scaling = "yarn";
  olmo3.rope_scaling_factor = 4;
  olmo3.n_ctx_orig = 64;

  const TinyModel granite{.architecture = "granite",
                          .n_head = 6,
                          .n_head_kv = 3,
                          .logit_scale = 4,
                          .residual_scale = 0.3f,
                          .embedding_scale = 6,
                          .attention_scale = 0.2f};
  TinyModel granite_unturned = granite, granite_experts = granite;
  granite_unturned.rope_finetuned = false;
  granite_experts.architecture = "granitemoe";
  granite_experts.n_expert = 6;
  granite_experts.n_expert_used = 3;
  granite_experts.n_ff_shared = 40;

  const TinyModel yarn{.rope_scaling = "yarn", .rope_scaling_factor = 4, .n_ctx_orig = 64};
  return {
      {"llama", {.n_head = 6, .n_head_kv = 3}},
      {"llama_biases_untied", {.tied = false, .biases = true}},
      {"llama_nemo_head_size", {.n_embd = 40, .n_head = 5, .n_head_kv = 1, .d_k = 14, .d_v = 14}},
      {"llama_linear", {.rope_linear_factor = 4}},
      {"llama_ntk", {.rope_freq_base = 500000}},
      {"llama_yarn", yarn},
      {"llama_factors", {.d_k = 32, .d_v = 32, .rope_factors = true}},
      {"llama_experts", {.n_expert = 5, .n_expert_used = 2}},
      {"smollm3", {.architecture = "smollm3", .n_layer = 5}},
      {"qwen2", square({.architecture = "qwen2", .n_head = 7, .n_head_kv = 1, .d_k = 10, .d_v = 10, .biases = true})},
      {"qwen3", {.architecture = "qwen3", .n_head = 6, .n_head_kv = 2}},
      {"qwen3moe", {.architecture = "qwen3moe", .n_ff = 24, .n_expert = 7, .n_expert_used = 3}},
      {"gemma2", gemma2},
      {"gemma3", gemma3},
      {"gemma3_scaled", gemma3_scaled},
      {"phi3", square(phi)},
      {"phi3_partial", phi_partial},
      {"phi3_long", phi_long},
      {"phi3_short", phi_short, 256},
      {"granite", granite},
      {"granite_without_rope", granite_unturned},
      {"granitemoe", granite_experts},
      {"olmo2", olmo2},
      {"olmo3", olmo3},
      {"gpt_oss",
       {.architecture = "gpt-oss",
        .n_layer = 4,
        .n_head = 6,
        .n_head_kv = 2,
        .rope_scaling = "yarn",
        .rope_scaling_factor = 4,
        .n_ctx_orig = 64,
        .window = 25,
        .n_expert = 4,
        .n_expert_used = 2,
        .tied = false,
        .biases = true}},
      {"split", {.n_files = 3}},
  };
}

Variant variant(const std::string& name) {
  for (const Variant& v : variants()) {
    if (v.name == name) return v;
  }
  throw std::invalid_argument(name);
}

}  // namespace lacake::models
