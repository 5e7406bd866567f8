#include "engine/output_grams.h"

#include <algorithm>
#include <memory>

#include "attention/forms.h"
#include "attention/row.h"

namespace lacake {
namespace {

void read(const ggml_tensor* t, std::size_t row, float* out) {
  attention::load_row((const char*)t->data + row * t->nb[1], (int)t->ne[0], t->type, out);
}

struct Adapter {
  std::vector<float> a;  // [n_in, rank]
  const ggml_tensor* b;  // [rank, n_out]
  float scale;

  void add_to(std::size_t row, std::span<float> out) const {
    std::vector<float> by((std::size_t)b->ne[0]);
    read(b, row, by.data());
    for (std::size_t r = 0; r < by.size(); ++r) {
      for (std::size_t c = 0; c < out.size(); ++c) out[c] += scale * by[r] * a[r * out.size() + c];
    }
  }
};

}  // namespace

OutputProjection output_projection(const LoadedModel& model, int layer) {
  const ggml_tensor* weight = model.weights.layer(layer).attention_output.weight;
  const auto n_in = (std::size_t)weight->ne[0];
  const auto adapters = std::make_shared<std::vector<Adapter>>();
  for (const Lora& lora : model.loras) {
    const Lora::Pair* pair = lora.pair(weight);
    if (!pair) continue;
    const auto rank = (std::size_t)pair->a->ne[1];
    Adapter& adapter = adapters->emplace_back(Adapter{std::vector<float>(n_in * rank), pair->b, pair->scale});
    for (std::size_t r = 0; r < rank; ++r) read(pair->a, r, adapter.a.data() + r * n_in);
  }
  const auto read_row = [&model, weight, n_in, adapters](std::size_t row, float* out) {
    model.weights.read_row(weight, row, out);
    for (const Adapter& adapter : *adapters) adapter.add_to(row, {out, n_in});
  };
  return {.n_in = n_in, .n_out = (std::size_t)weight->ne[1], .read = read_row};
}

const float* OutputGrams::of(int layer, const OutputProjection& output, Workers& workers, std::span<float> rows) {
  std::vector<float>& grams = layers_[(std::size_t)layer];
  if (!grams.empty()) return grams.data();
  const std::size_t d = (std::size_t)h_.d_v, n_head = (std::size_t)h_.n_head;
  grams.resize(n_head * d * d);
  for (std::size_t first = 0; first < output.n_out; first += OutputProjection::kAtOnce) {
    const std::size_t n = std::min(OutputProjection::kAtOnce, output.n_out - first);
    workers.each(n, [&](std::size_t i, int) { output.read(first + i, rows.data() + i * output.n_in); });
    workers.each(n_head, [&](std::size_t head, int) {
      attention::add_outer_products(rows.data() + head * d, n, output.n_in, nullptr, d, grams.data() + head * d * d);
    });
  }
  workers.each(n_head, [&](std::size_t head, int) { attention::take_halves(grams.data() + head * d * d, d); });
  return grams.data();
}

std::uint64_t OutputGrams::bytes() const {
  std::uint64_t floats = 0;
  for (const std::vector<float>& grams : layers_) floats += grams.size();
  return floats * sizeof(float);
}

}  // namespace lacake
