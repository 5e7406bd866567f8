#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ggml-cpp.h"
#include "model/gguf_file.h"
#include "model/weights.h"

namespace lacake {

// A LoRA adapter: what a fine-tuning added to some of a model's matrices, as products of two thin ones.
//   y = W x + scale * B (A x),  A [n_in, rank], B [rank, n_out]
// Nothing is merged, so weights stay as they are stored and several adapters add up; a product costs rank * (n_in +
// n_out) multiply-adds a column more.
class Lora {
 public:
  // Reads the adapter's file, in the form that llama.cpp's convert_lora_to_gguf.py writes. Keeps it mapped. Throws
  // Error(kInput) naming the key or tensor where it is no adapter of this model.
  //   scale  of the user's, times alpha / rank
  Lora(const std::string& path, double scale, const Weights& weights, const std::string& architecture);

  struct Pair {
    ggml_tensor* a = nullptr;
    ggml_tensor* b = nullptr;
    float scale = 0;
  };
  // What is added to a matrix's products, or null.
  const Pair* pair(const ggml_tensor* weight) const;
  std::uint64_t bytes() const { return bytes_; }
  const GgufFile& file() const { return *file_; }
  double scale() const { return scale_; }  // the user's

 private:
  void add(const std::string& name, const Weights& weights, double scale);
  ggml_tensor* take(const std::string& name);

  std::unique_ptr<GgufFile> file_;
  double scale_;
  ggml_context_ptr context_;
  std::unordered_map<const ggml_tensor*, Pair> pairs_;
  std::uint64_t bytes_ = 0;
};

}  // namespace lacake
