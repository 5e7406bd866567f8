#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "ggml-cpp.h"
#include "matmul/large_pages.h"
#include "matmul/matmul_method.h"
#include "matmul/packed.h"
#include "model/architecture.h"
#include "model/gguf_file.h"

namespace lacake {

// A matrix and the bias that some families add to its product.
struct Linear {
  ggml_tensor* weight = nullptr;  // [n_in, n_out]
  ggml_tensor* bias = nullptr;    // [n_out] or null
};

// A feed-forward network, or several side by side: then every matrix has a third dimension, the expert, and its bias a
// second.
struct FeedForward {
  Linear gate;  // [n_embd, n_ff]; null: up holds both, gate first
  Linear up;    // [n_embd, n_ff], or [n_embd, 2 * n_ff]
  Linear down;  // [n_ff, n_embd]
};

// One decoder block. What is null is left out of the block (graph/block.h).
struct LayerWeights {
  ggml_tensor* attention_norm = nullptr;        // [n_embd]
  Linear q;                                     // [n_embd, n_head * d_k]
  Linear k;                                     // [n_embd, n_head_kv * d_k]
  Linear v;                                     // [n_embd, n_head_kv * d_v]
  Linear qkv;                                   // instead of the three: one behind the other
  ggml_tensor* q_norm = nullptr;                // [d_k], or [n_head * d_k] of the whole projection
  ggml_tensor* k_norm = nullptr;                // [d_k], or [n_head_kv * d_k]
  ggml_tensor* sinks = nullptr;                 // [n_head]
  Linear attention_output;                      // [n_head * d_v, n_embd]
  ggml_tensor* attention_after_norm = nullptr;  // [n_embd]
  ggml_tensor* ffn_norm = nullptr;              // [n_embd]
  FeedForward ffn;                              // of a layer without experts
  Linear router;                                // [n_embd, n_expert]
  FeedForward experts;
  FeedForward shared_expert;
  ggml_tensor* ffn_after_norm = nullptr;  // [n_embd]
};

// The weights of a model: tensors over the mapped file, or, where there is a faster form of a type, a second form (then
// the mapped bytes are given back to the system). There are three kinds: packed(), for our own products, where the
// tensor has no data of its own; the backend's, which looks like any tensor; and copies of vectors (norms, biases),
// because a touch of one in the mapping may make megabytes around it resident (Linux maps whole folios of the page
// cache).
class Weights {
 public:
  // Borrows `file` for its own life. Throws Error(kInput) naming the tensor that is missing or has another shape.
  //   second_forms  false: every weight stays as the file has it
  Weights(const GgufFile& file, const Hyperparameters&, ggml_backend_dev_t device, matmul::Method, bool second_forms);

  ggml_tensor* token_embedding() const { return token_embedding_; }  // [n_embd, n_vocab]
  ggml_tensor* output_norm() const { return output_norm_; }          // [n_embd]
  const Linear& output() const { return output_; }                   // [n_embd, n_vocab]; the embedding where tied
  ggml_tensor* rope_factors() const { return rope_factors_; }        // [n_rot/2] or null (Llama 3.x, Phi 3.5)
  // A layer's sinks [n_head] in memory, or null.
  const float* sinks(int i) const { return layer(i).sinks ? (const float*)layer(i).sinks->data : nullptr; }
  // By the name that it has in the file, or null.
  ggml_tensor* find(const std::string& name) const { return ggml_get_tensor(context_.get(), name.c_str()); }
  // The packed form of a matrix, or null: then it is a tensor with data.
  const matmul::Packed* packed(const ggml_tensor* matrix) const;
  // Row `i` of a matrix as f32 [n_in], whatever form it is kept in. Any thread.
  void read_row(const ggml_tensor* matrix, std::size_t i, float* out) const;
  const LayerWeights& layer(int i) const { return layers_[(std::size_t)i]; }

  std::uint64_t mapped_bytes() const { return mapped_bytes_; }  // read from the mapping while running
  std::uint64_t second_bytes() const { return second_bytes_; }  // repacked copies
  std::uint64_t n_parameters() const { return n_parameters_; }

 private:
  ggml_tensor* take(const std::string& name, std::vector<std::int64_t> shape, bool required, bool product);
  Linear linear(const std::string& name, std::int64_t n_in, std::int64_t n_out, bool required = true);
  Linear experts(const std::string& name, std::int64_t n_in, std::int64_t n_out, std::int64_t n_expert);
  void take_attention(LayerWeights& l, const std::string& prefix, const Hyperparameters& h);
  void take_feed_forward(LayerWeights& l, const std::string& prefix, const Hyperparameters& h);
  void place_mapped(ggml_tensor* tensor, const ggml_tensor* described);
  std::optional<matmul::Matrix> packable(const ggml_tensor* described) const;
  bool place_packed(ggml_tensor* tensor, const ggml_tensor* described);
  bool place_repacked(ggml_tensor* tensor, const ggml_tensor* described);
  bool place_copy(ggml_tensor* tensor, const ggml_tensor* described, ggml_backend_buffer_type_t);

  const GgufFile& file_;
  ggml_backend_dev_t device_;
  bool second_forms_;
  bool pack_;
  std::vector<ggml_backend_buffer_type_t> repacked_types_;
  ggml_context_ptr context_;
  std::vector<ggml_backend_buffer_ptr> mapped_;  // by part of the file
  std::vector<ggml_backend_buffer_ptr> copies_;
  std::optional<matmul::LargePages> packed_memory_;
  std::unordered_map<const ggml_tensor*, matmul::Packed> packed_;

  ggml_tensor* token_embedding_ = nullptr;
  ggml_tensor* output_norm_ = nullptr;
  Linear output_;
  ggml_tensor* rope_factors_ = nullptr;
  std::vector<LayerWeights> layers_;
  std::uint64_t mapped_bytes_ = 0;
  std::uint64_t second_bytes_ = 0;
  std::uint64_t n_parameters_ = 0;
};

}  // namespace lacake
