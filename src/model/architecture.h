#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/gguf_file.h"

namespace lacake {

// What a GGUF file's metadata say of the model, checked. All families are described by these numbers and by which
// optional tensors the file has; see graph/block.h.
struct Hyperparameters {
  std::string architecture;  // general.architecture
  std::string name;          // general.name, or ""

  int n_layer = 0;
  int n_embd = 0;
  int n_head = 0;
  int n_head_kv = 0;
  int d_k = 0;  // head size of Q and K
  int d_v = 0;  // head size of V
  int n_ff = 0;
  int n_vocab = 0;
  std::int64_t n_ctx_train = 0;
  float rms_epsilon = 0;

  // RoPE, as ggml_rope_ext takes it.
  int rope_mode = 0;  // GGML_ROPE_TYPE_*
  int n_rot = 0;
  float rope_freq_base = 0;
  float rope_freq_scale = 1;

  int group() const { return n_head / n_head_kv; }
  float attention_scale() const;
};

// The architectures that can be run, by general.architecture.
std::vector<std::string> supported_architectures();

// Reads and checks. Throws Error(kInput) naming the key for what is missing, contradictory or absurd, and for an
// architecture that is not supported, with the list of those that are.
Hyperparameters read_hyperparameters(const GgufFile&);

}  // namespace lacake
