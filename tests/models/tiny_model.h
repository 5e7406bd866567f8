#pragma once

// Tiny random models of every family, written as GGUF files: every size and option that a test wants, in milliseconds,
// without a download.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ggml.h"
#include "gguf.h"

namespace lacake::models {

// What the file says of the model. Same description, same bytes.
struct TinyModel {
  std::string architecture = "llama";
  int n_layer = 3;
  int n_embd = 32;
  int n_head = 4;
  int n_head_kv = 2;
  int d_k = 16;
  int d_v = 16;  // libllama's llama graph needs d_v == d_k
  int n_ff = 64;
  int n_vocab = 320;  // 3 special tokens, 256 bytes, then letters and pairs of letters; fewer cuts the list
  int n_ctx_train = 2048;

  int n_rot = 0;  // 0: d_k; libllama's llama graph needs d_k
  float rope_freq_base = 10000;
  double rope_linear_factor = 0;  // above 0: linear scaling
  bool rope_factors = false;      // rope_freqs.weight, as in Llama 3.x
  std::string rope_scaling = "";  // of another type than linear
  double rope_scaling_factor = 0;
  double rope_attn_factor = 0;
  int n_ctx_orig = 0;                       // above 0: rope.scaling.original_context_length
  bool long_short_factors = false;          // rope_factors_long.weight and rope_factors_short.weight, as in Phi 3.5
  float rope_freq_base_sliding = 0;         // above 0: of sliding-window layers
  std::optional<bool> rope_finetuned = {};  // false: Granite's way to say that nothing turns

  int window = 0;                 // above 0: attention.sliding_window
  std::vector<bool> slides = {};  // by layer, where the family's own pattern is not meant
  float attention_softcap = 0;
  float output_softcap = 0;
  int n_expert = 0;
  int n_expert_used = 0;
  int n_ff_shared = 0;
  float logit_scale = 0, residual_scale = 0, embedding_scale = 0, attention_scale = 0;  // Granite's

  bool tied = true;                   // the output is the embedding
  bool biases = false;                // of q, k and v, and of the attention output where the family has one
  int n_files = 1;                    // above 1: split, as NAME-00001-of-0000N.gguf
  ggml_type weights = GGML_TYPE_F32;  // of the matrices, the embedding included; the rest is F32
  ggml_type rounded = GGML_TYPE_F32;  // another: F32 matrices hold the numbers that it would
  unsigned seed = 1;
  // Of a matrix's or vector's numbers [ne0, ...], before they are written.
  std::function<void(const std::string& name, std::vector<float>& values, std::int64_t ne0)> change = {};

  // For files that are not what they should be.
  std::map<std::string, std::vector<std::int64_t>> shapes = {};  // instead of a tensor's own; empty: left out
  std::map<std::string, ggml_type> types = {};                   // instead of a tensor's own
  std::function<void(gguf_context*)> edit = {};                  // of the metadata, last
};

// A temporary file that is gone when this is.
class ModelFile {
 public:
  explicit ModelFile(const TinyModel& model);
  ~ModelFile();
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::vector<std::string> paths_;
  std::string path_;
};

// A family or RoPE variant, by a name that a test can have.
struct Variant {
  std::string name;
  TinyModel model;
  std::int64_t context_length = 0;  // as Model::Options has it
};
// One of each: odd head counts, head sizes and groups among them.
std::vector<Variant> variants();
Variant variant(const std::string& name);  // throws std::invalid_argument if there is none

// Tokens of a text that repeats itself loosely, so that attention has something to find: [n], all of them letters.
std::vector<std::int32_t> random_tokens(const TinyModel& model, std::size_t n, unsigned seed);

}  // namespace lacake::models
