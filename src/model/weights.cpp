#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "lacake/error.h"

namespace lacake {
namespace {

std::vector<std::int64_t> shape_of(const ggml_tensor* t) {
  return std::vector<std::int64_t>(t->ne, t->ne + ggml_n_dims(t));
}

// The device's own forms of quantised matrices (interleaved rows for its vector unit), if it has any.
std::vector<ggml_backend_buffer_type_t> extra_buffer_types(ggml_backend_dev_t device) {
  std::vector<ggml_backend_buffer_type_t> types;
  auto get = (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device),
                                                                                   "ggml_backend_dev_get_extra_bufts");
  ggml_backend_buffer_type_t* list = get ? get(device) : nullptr;
  while (list && *list) types.push_back(*list++);
  return types;
}

}  // namespace

Weights::Weights(const GgufFile& file, const Hyperparameters& h, ggml_backend_dev_t device, matmul::Method method,
                 bool second_forms)
    : file_(file),
      device_(device),
      second_forms_(second_forms),
      pack_(second_forms && matmul::reads_packed(method)),
      layers_((std::size_t)h.n_layer) {
  // Where our own kernels unpack what is stored, nothing may be in the backend's order.
  if (second_forms && method == matmul::Method::kGgml) repacked_types_ = extra_buffer_types(device);
  context_.reset(ggml_init(
      {.mem_size = ggml_tensor_overhead() * (file.n_tensors() + 1), .mem_buffer = nullptr, .no_alloc = true}));
  for (std::size_t part = 0; part < file.n_parts(); ++part) {
    const std::span<const std::byte> m = file.mapping(part);
    mapped_.emplace_back(ggml_backend_dev_buffer_from_host_ptr(device, (void*)m.data(), m.size(), 0));
    if (!mapped_.back())
      file.fail(fmt::format("device {} cannot use weights where the file is mapped", ggml_backend_dev_name(device)));
    ggml_backend_buffer_set_usage(mapped_.back().get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  }

  // Where it is the output too, it can be packed, but not be in the backend's order: that has no single rows.
  const bool tied = !file.tensor("output.weight");
  token_embedding_ = take("token_embd.weight", {h.n_embd, h.n_vocab}, true, tied && pack_);
  output_norm_ = take("output_norm.weight", {h.n_embd}, true, false);
  output_ = linear("output", h.n_embd, h.n_vocab, false);
  if (!output_.weight) output_.weight = token_embedding_;
  rope_factors_ = take("rope_freqs.weight", {h.n_rot / 2}, false, false);
  if (!rope_factors_) {
    rope_factors_ =
        take(h.long_factors ? "rope_factors_long.weight" : "rope_factors_short.weight", {h.n_rot / 2}, false, false);
  }
  for (int i = 0; i < h.n_layer; ++i) {
    LayerWeights& l = layers_[(std::size_t)i];
    const std::string p = fmt::format("blk.{}.", i);
    const auto norm = [&](const char* name) { return take(p + name + ".weight", {h.n_embd}, true, false); };
    if (h.norm_before) l.attention_norm = norm("attn_norm");
    take_attention(l, p, h);
    if (h.norm_after) l.attention_after_norm = norm("post_attention_norm");
    if (h.norm_before) l.ffn_norm = norm(h.ffn_norm);
    take_feed_forward(l, p, h);
    if (h.norm_after) l.ffn_after_norm = norm("post_ffw_norm");
  }
  file.forget_all();
}

void Weights::take_attention(LayerWeights& l, const std::string& p, const Hyperparameters& h) {
  const std::int64_t q = std::int64_t{h.n_head} * h.d_k, k = std::int64_t{h.n_head_kv} * h.d_k;
  const std::int64_t v = std::int64_t{h.n_head_kv} * h.d_v;
  l.qkv = linear(p + "attn_qkv", h.n_embd, q + k + v, false);
  if (!l.qkv.weight) {
    l.q = linear(p + "attn_q", h.n_embd, q);
    l.k = linear(p + "attn_k", h.n_embd, k);
    l.v = linear(p + "attn_v", h.n_embd, v);
  }
  if (h.head_norm || h.projection_norm) {
    l.q_norm = take(p + "attn_q_norm.weight", {h.head_norm ? h.d_k : q}, true, false);
    l.k_norm = take(p + "attn_k_norm.weight", {h.head_norm ? h.d_k : k}, true, false);
  }
  if (h.sinks) l.sinks = take(p + "attn_sinks.weight", {h.n_head}, true, false);
  l.attention_output = linear(p + "attn_output", std::int64_t{h.n_head} * h.d_v, h.n_embd);
}

void Weights::take_feed_forward(LayerWeights& l, const std::string& p, const Hyperparameters& h) {
  if (h.n_expert == 0) {
    if (!h.joined_gate_up) l.ffn.gate = linear(p + "ffn_gate", h.n_embd, h.n_ff);
    l.ffn.up = linear(p + "ffn_up", h.n_embd, h.joined_gate_up ? 2 * std::int64_t{h.n_ff} : h.n_ff);
    l.ffn.down = linear(p + "ffn_down", h.n_ff, h.n_embd);
    return;
  }
  l.router = linear(p + "ffn_gate_inp", h.n_embd, h.n_expert);
  l.experts.gate = experts(p + "ffn_gate_exps", h.n_embd, h.n_ff, h.n_expert);
  l.experts.up = experts(p + "ffn_up_exps", h.n_embd, h.n_ff, h.n_expert);
  l.experts.down = experts(p + "ffn_down_exps", h.n_ff, h.n_embd, h.n_expert);
  if (h.n_ff_shared > 0) {
    l.shared_expert.gate = linear(p + "ffn_gate_shexp", h.n_embd, h.n_ff_shared);
    l.shared_expert.up = linear(p + "ffn_up_shexp", h.n_embd, h.n_ff_shared);
    l.shared_expert.down = linear(p + "ffn_down_shexp", h.n_ff_shared, h.n_embd);
  }
}

Linear Weights::linear(const std::string& name, std::int64_t n_in, std::int64_t n_out, bool required) {
  return {take(name + ".weight", {n_in, n_out}, required, true), take(name + ".bias", {n_out}, false, false)};
}

// As they lie in the file: a token reads few of them.
Linear Weights::experts(const std::string& name, std::int64_t n_in, std::int64_t n_out, std::int64_t n_expert) {
  return {take(name + ".weight", {n_in, n_out, n_expert}, true, false),
          take(name + ".bias", {n_out, n_expert}, false, false)};
}

ggml_tensor* Weights::take(const std::string& name, std::vector<std::int64_t> shape, bool required, bool product) {
  const ggml_tensor* described = file_.tensor(name);
  if (!described) {
    if (required) file_.fail("tensor " + name, fmt::format("shape [{}]", fmt::join(shape, ", ")), "no such tensor");
    return nullptr;
  }
  while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
  if (shape_of(described) != shape) {
    file_.fail("tensor " + name, fmt::format("shape [{}]", fmt::join(shape, ", ")),
               fmt::format("[{}]", fmt::join(shape_of(described), ", ")));
  }
  // ggml aborts the process where it meets another type.
  const bool plain = shape.size() == 1 || name.ends_with(".bias"), f32 = described->type == GGML_TYPE_F32;
  if (!f32 && (plain || !ggml_get_type_traits(described->type)->to_float)) {
    file_.fail("tensor " + name, plain ? "f32" : "a float or quantised type", ggml_type_name(described->type));
  }
  ggml_tensor* tensor = ggml_dup_tensor(context_.get(), described);
  ggml_set_name(tensor, name.c_str());
  n_parameters_ += (std::uint64_t)ggml_nelements(tensor);
  const bool vector = shape.size() == 1 && second_forms_;
  const bool copied = vector && place_copy(tensor, described, ggml_backend_dev_buffer_type(device_));
  if (!copied && !(product && (place_packed(tensor, described) || place_repacked(tensor, described)))) {
    place_mapped(tensor, described);
  }
  return tensor;
}

const matmul::Packed* Weights::packed(const ggml_tensor* matrix) const {
  const auto found = packed_.find(matrix);
  return found == packed_.end() ? nullptr : &found->second;
}

// What is kept in the backend's order has no rows: they are read from the file, as all that is mapped is.
void Weights::read_row(const ggml_tensor* matrix, std::size_t i, float* out) const {
  if (const matmul::Packed* p = packed(matrix)) return p->read_row(i, out);
  const ggml_tensor* described = file_.tensor(matrix->name);
  const std::byte* row = file_.data(described) + i * described->nb[1];
  if (described->type == GGML_TYPE_F32) {
    std::copy_n((const float*)row, described->ne[0], out);
  } else {
    ggml_get_type_traits(described->type)->to_float(row, out, described->ne[0]);
  }
}

std::optional<matmul::Matrix> Weights::packable(const ggml_tensor* described) const {
  const bool whole = ggml_n_dims(described) == 2 && described->ne[0] % (std::int64_t)matmul::kBlock == 0;
  if (!pack_ || !whole || !matmul::is_packable(described->type)) return std::nullopt;
  return matmul::Matrix{.data = file_.data(described),
                        .type = described->type,
                        .n_in = (std::size_t)described->ne[0],
                        .n_out = (std::size_t)described->ne[1]};
}

bool Weights::place_packed(ggml_tensor* tensor, const ggml_tensor* described) {
  const auto matrix = packable(described);
  if (!matrix) return false;
  if (!packed_memory_) {
    std::size_t all = 0;
    for (const std::string& name : file_.tensor_names()) {
      if (const auto m = packable(file_.tensor(name))) all += matmul::Packed::bytes_for(*m);
    }
    packed_memory_.emplace(all);
  }
  const std::size_t bytes = matmul::Packed::bytes_for(*matrix);
  const auto forget = [&](std::size_t first, std::size_t last) {
    file_.forget({(const std::byte*)matrix->row(first), (last - first) * described->nb[1]});
  };
  packed_.emplace(tensor, matmul::Packed(*matrix, packed_memory_->take(bytes), forget));
  second_bytes_ += bytes;
  return true;
}

void Weights::place_mapped(ggml_tensor* tensor, const ggml_tensor* described) {
  const auto status = ggml_backend_tensor_alloc(mapped_[file_.part_of(described)].get(), tensor, file_.data(described));
  if (status != GGML_STATUS_SUCCESS) file_.fail(fmt::format("tensor {} cannot be placed", tensor->name));
  mapped_bytes_ += ggml_nbytes(tensor);
}

bool Weights::place_repacked(ggml_tensor* tensor, const ggml_tensor* described) {
  for (ggml_backend_buffer_type_t type : repacked_types_) {
    // Asks the device whether it multiplies this matrix in that form, with an operation that is never run.
    ggml_context_ptr probe(
        ggml_init({.mem_size = ggml_tensor_overhead() * 4, .mem_buffer = nullptr, .no_alloc = true}));
    ggml_tensor* weight = ggml_dup_tensor(probe.get(), described);
    ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(type, 0));
    weight->buffer = empty.get();
    ggml_tensor* x = ggml_new_tensor_2d(probe.get(), GGML_TYPE_F32, weight->ne[0], 1);
    if (!ggml_backend_dev_supports_op(device_, ggml_mul_mat(probe.get(), weight, x))) continue;

    if (place_copy(tensor, described, type)) return true;
  }
  return false;
}

bool Weights::place_copy(ggml_tensor* tensor, const ggml_tensor* described, ggml_backend_buffer_type_t type) {
  const std::size_t bytes = ggml_backend_buft_get_alloc_size(type, tensor);
  ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type, bytes));
  if (!buffer) return false;
  ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  ggml_backend_tensor_alloc(buffer.get(), tensor, ggml_backend_buffer_get_base(buffer.get()));
  ggml_backend_tensor_set(tensor, file_.data(described), 0, ggml_nbytes(tensor));
  file_.forget(described);
  second_bytes_ += bytes;
  copies_.push_back(std::move(buffer));
  return true;
}

}  // namespace lacake
