#pragma once

// Tiny random models of the llama family, written as GGUF files: every size and option that a test wants, in
// milliseconds, without a download.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ggml.h"
#include "gguf.h"

namespace lacake::models {

// What the file says of the model. Same description, same bytes.
struct TinyModel {
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

  bool tied = true;                   // the output is the embedding
  bool biases = false;                // of q, k, v and the attention output
  ggml_type weights = GGML_TYPE_F32;  // of the matrices, the embedding included; the rest is F32
  unsigned seed = 1;

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
  std::string path_;
};

// Tokens of a text that repeats itself loosely, so that attention has something to find: [n], all of them letters.
std::vector<std::int32_t> random_tokens(const TinyModel& model, std::size_t n, unsigned seed);

}  // namespace lacake::models
