#include "place/attention_nodes.h"

#include "attention/composed.h"
#include "cpu/target.h"

namespace lacake {
namespace {

ggml_tensor* with_repeat(Graph& graph, const Projections& p, attention::PrefillLayer* layer, ggml_tensor* attended) {
  if (!layer->repeat) return attended;
  layer->repeat->inputs = p.input;
  return attention::repeat_nodes(graph.context(), attended, p.q, layer);
}

// Our kernels, as custom nodes.
class KernelNodes final : public AttentionNodes {
 public:
  explicit KernelNodes(attention::Method method) : method_(method) {}

  ggml_tensor* prefill(Graph& graph, const Projections& p, ggml_tensor* keys, attention::PrefillLayer* layer,
                       const Rotate&) const override {
    return with_repeat(graph, p, layer, attention::prefill_node(graph.context(), p.q, keys, p.v, layer));
  }
  ggml_tensor* decode(Graph& graph, const Projections& p, attention::DecodeLayer* layer, const Rotate&) const override {
    return attention::decode_node(graph.context(), p.q, p.k_rotated, p.k_plain, p.v, layer);
  }
  std::size_t n_nodes(std::size_t) const override { return 0; }  // one or two, which a block's bound has room for
  bool graph_outlives_rows() const override { return true; }
  attention::Arithmetic arithmetic(ggml_type type_k, ggml_type type_v) const override {
    return attention::arithmetic_of(method_, type_k, type_v);
  }
  InUse in_use(ggml_type type_k, ggml_type type_v) const override {
    return {cpu::target_name(), attention::name(arithmetic(type_k, type_v))};
  }

 private:
  attention::Method method_;
};

// ggml's own operations: slow on the host, and the way for devices without kernels of ours.
class ComposedNodes final : public AttentionNodes {
 public:
  ggml_tensor* prefill(Graph& graph, const Projections& p, ggml_tensor* keys, attention::PrefillLayer* layer,
                       const Rotate& rotate) const override {
    return with_repeat(graph, p, layer,
                       attention::composed_prefill(graph.context(), graph.graph(), p.q, keys, p.v, layer, rotate));
  }
  ggml_tensor* decode(Graph& graph, const Projections& p, attention::DecodeLayer* layer,
                      const Rotate& rotate) const override {
    return attention::composed_decode(graph.context(), graph.graph(), p.q, p.k_rotated, p.k_plain, p.v, layer, rotate);
  }
  std::size_t n_nodes(std::size_t n_lanes) const override { return attention::composed_nodes(n_lanes); }
  bool graph_outlives_rows() const override { return false; }
  attention::Arithmetic arithmetic(ggml_type, ggml_type) const override { return attention::Arithmetic::kF32; }
  InUse in_use(ggml_type, ggml_type) const override { return {"ggml", "ggml"}; }
};

}  // namespace

std::unique_ptr<AttentionNodes> make_attention_nodes(attention::Method method) {
  if (method == attention::Method::kGgml) return std::make_unique<ComposedNodes>();
  return std::make_unique<KernelNodes>(method);
}

}  // namespace lacake
