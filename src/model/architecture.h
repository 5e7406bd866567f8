#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lacake/model.h"
#include "model/gguf_file.h"

namespace lacake {

// Between the two halves of a feed-forward network.
//   kSilu           silu(gate) * up
//   kGelu           gelu(gate) * up, the tanh form
//   kClampedSwiglu  gate * sigmoid(1.702 gate) * (up + 1), both cut at 7 (gpt-oss)
enum class Activation { kSilu, kGelu, kClampedSwiglu };

// RoPE, as ggml_rope_ext takes it.
struct RopeParameters {
  float freq_base = 10000;
  float freq_scale = 1;
  float ext_factor = 0;  // above 0: YaRN
  float attn_factor = 1;
  float beta_fast = 32;
  float beta_slow = 1;
  int n_ctx_orig = 0;  // length of the first training, for YaRN and for long and short factors
};

inline constexpr int kNoRope = -1;

// What differs from layer to layer.
struct LayerKind {
  int window = 0;  // above 0: a query sees its own token and window - 1 before it
  int rope = 0;    // index into Hyperparameters::ropes, or kNoRope
};

// What a GGUF file's metadata say of the model, checked. All families are described by these numbers and by which
// optional tensors the file has; see graph/block.h.
struct Hyperparameters {
  std::string architecture;  // general.architecture
  std::string name;          // general.name, or ""

  int n_layer = 0;
  int n_embd = 0;
  int n_head = 0;
  int n_head_kv = 0;
  int d_k = 0;   // head size of Q and K
  int d_v = 0;   // head size of V
  int n_ff = 0;  // of one expert, where there are experts
  int n_vocab = 0;
  std::int64_t n_ctx_train = 0;
  float rms_epsilon = 0;

  // Experts; 0: a layer has one feed-forward network.
  int n_expert = 0;
  int n_expert_used = 0;
  int n_ff_shared = 0;               // of the expert that every token takes beside its own
  bool softmax_over_chosen = false;  // weights are a softmax over the chosen experts, not over all

  Activation activation = Activation::kSilu;
  float attention_scale = 0;    // of q.k
  float attention_softcap = 0;  // 0: none
  float output_softcap = 0;     // of logits
  float embedding_scale = 1;
  float residual_scale = 1;  // of what a layer adds
  float output_scale = 1;    // of logits

  int rope_mode = 0;  // GGML_ROPE_TYPE_*
  int n_rot = 0;
  bool long_factors = false;  // which of the two frequency factors are used, where the file has both
  std::vector<RopeParameters> ropes;
  std::vector<LayerKind> layers;  // [n_layer]

  // Which tensors its layers have (weights.h).
  bool norm_before = true;       // of what goes into attention and feed-forward
  bool norm_after = false;       // of what comes out
  bool head_norm = false;        // of each head of Q and K
  bool projection_norm = false;  // of Q and K as a whole
  bool joined_gate_up = false;   // one matrix for both
  bool sinks = false;            // attention sinks
  const char* ffn_norm = "ffn_norm";

  int group() const { return n_head / n_head_kv; }
};

// Reads and checks. Throws Error(kInput) naming the key for what is missing, contradictory or absurd, and for an
// architecture that is not supported, with the list of those that are.
//   context_length  the longest conversation that is meant, for models with long and short RoPE factors; 0: the model's
Hyperparameters read_hyperparameters(const GgufFile&, const RopeOptions& rope = {}, std::int64_t context_length = 0);

}  // namespace lacake
