#include "graph/block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "lacake/model.h"
#include "model/loaded_model.h"
#include "models/tiny_model.h"
#include "place/host_place.h"

namespace lacake {
namespace {

constexpr std::int64_t kTokens = 3;

// What a block makes of some tokens, and the keys that it hands to attention.
struct Seen {
  std::vector<float> output;     // [n_embd, n]
  std::vector<float> k_rotated;  // [d_k, n_head_kv, n_rotated]
  std::vector<float> k_plain;    // [d_k, n_head_kv, n - n_rotated]
};

std::vector<float> values_of(ggml_tensor* t) {
  std::vector<float> values((std::size_t)ggml_nelements(t));
  ggml_backend_tensor_get(t, values.data(), 0, ggml_nbytes(t));
  return values;
}

// The first layer's block over `x` [n_embd, kTokens]. Attention gives each query back as it came.
Seen run_block(const LoadedModel& model, const std::vector<float>& x, const std::vector<std::int32_t>& positions,
               std::int64_t n_rotated) {
  const Hyperparameters& h = model.hyperparameters;
  HostPlace place(1);
  const MatmulPlan plan{.method = model.product};
  Graph graph(nodes_per_block(h, plan, 0) + 16);
  BlockBuilder builder(graph, h, model.weights, plan);
  ggml_tensor* in = graph.input(GGML_TYPE_F32, h.n_embd, kTokens);
  ggml_tensor* at = graph.input(GGML_TYPE_I32, kTokens);
  Projections seen;
  const auto keep = [&](ggml_tensor* t) {
    if (!t) return t;
    ggml_tensor* copy = ggml_cont(graph.context(), t);
    graph.output(copy);
    return copy;
  };
  ggml_tensor* out = builder.block(0, in, at, n_rotated, [&](const Projections& p) {
    seen.k_rotated = keep(p.k_rotated);
    seen.k_plain = keep(p.k_plain);
    return ggml_reshape_2d(graph.context(), ggml_cont(graph.context(), p.q), h.d_k * h.n_head, kTokens);
  });
  graph.output(out);
  place.allocate(graph);
  ggml_backend_tensor_set(in, x.data(), 0, x.size() * sizeof(float));
  ggml_backend_tensor_set(at, positions.data(), 0, positions.size() * sizeof(std::int32_t));
  place.run(graph);
  return {.output = values_of(out),
          .k_rotated = seen.k_rotated ? values_of(seen.k_rotated) : std::vector<float>(),
          .k_plain = seen.k_plain ? values_of(seen.k_plain) : std::vector<float>()};
}

// The same by the formulas, in double.
class Plain {
 public:
  explicit Plain(const LoadedModel& model) : model_(model), h_(model.hyperparameters), l_(model.weights.layer(0)) {}

  using Vector = std::vector<double>;

  Vector normed(const Vector& x, const ggml_tensor* weight) const {
    const double mean = std::inner_product(x.begin(), x.end(), x.begin(), 0.0) / (double)x.size();
    Vector y(x.size());
    const auto* w = static_cast<const float*>(weight->data);
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / std::sqrt(mean + h_.rms_epsilon) * w[i];
    return y;
  }
  Vector product(const Linear& linear, const Vector& x) const {
    Vector y((std::size_t)linear.weight->ne[1]);
    std::vector<float> row(x.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
      model_.weights.read_row(linear.weight, i, row.data());
      y[i] = std::inner_product(x.begin(), x.end(), row.begin(), 0.0);
      if (linear.bias) y[i] += static_cast<const float*>(linear.bias->data)[i];
    }
    return y;
  }
  // Each head's neighbours (2i, 2i + 1) turn by position / base^(2i / d), as GGUF files of the llama family have them.
  Vector rotated(Vector x, int position) const {
    const auto d = (std::size_t)h_.d_k;
    for (std::size_t head = 0; head < x.size(); head += d) {
      for (std::size_t i = 0; i < d; i += 2) {
        const double angle = position / std::pow((double)h_.ropes[0].freq_base, (double)i / (double)d);
        const double a = x[head + i], b = x[head + i + 1];
        x[head + i] = a * std::cos(angle) - b * std::sin(angle);
        x[head + i + 1] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
    return x;
  }
  Vector key(const Vector& x) const { return product(l_.k, normed(x, l_.attention_norm)); }
  Vector output(Vector x, int position) const {
    const Vector q = rotated(product(l_.q, normed(x, l_.attention_norm)), position);
    add(x, product(l_.attention_output, q));
    const Vector in = normed(x, l_.ffn_norm), gate = product(l_.ffn.gate, in);
    Vector up = product(l_.ffn.up, in);
    for (std::size_t i = 0; i < up.size(); ++i) up[i] *= gate[i] / (1 + std::exp(-gate[i]));
    add(x, product(l_.ffn.down, up));
    return x;
  }

 private:
  static void add(Vector& x, const Vector& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  const LoadedModel& model_;
  const Hyperparameters& h_;
  const LayerWeights& l_;
};

class Block : public testing::Test {
 protected:
  static constexpr std::int64_t kRotated = 2;  // of the three tokens' keys

  Block() {
    for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = (float)std::sin(1.7 * (double)i) * 2;
  }
  Plain::Vector token(std::int64_t i) const {
    const auto n = (std::ptrdiff_t)model_.hyperparameters.n_embd;
    return {x_.begin() + i * n, x_.begin() + (i + 1) * n};
  }
  static void expect_near(std::span<const float> found, const Plain::Vector& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 2e-4) << i;
  }

  const models::ModelFile file_{{.biases = true}};
  const LoadedModel model_{file_.path(), {}};
  const std::vector<std::int32_t> positions_ = {7, 0, 1900};
  std::vector<float> x_ = std::vector<float>((std::size_t)(kTokens * models::TinyModel().n_embd));
};

TEST_F(Block, IsNormAttentionNormAndGatedFeedForwardEachAddedToItsInput) {
  const Seen seen = run_block(model_, x_, positions_, kRotated);
  const Plain plain(model_);
  const auto n = (std::size_t)model_.hyperparameters.n_embd;
  for (std::size_t i = 0; i < (std::size_t)kTokens; ++i) {
    SCOPED_TRACE(i);
    expect_near(std::span(seen.output).subspan(i * n, n), plain.output(token((std::int64_t)i), positions_[i]));
  }
}

TEST_F(Block, RotatesTheFirstKeysAndLeavesTheOthersAsProjected) {
  const Seen seen = run_block(model_, x_, positions_, kRotated);
  const Plain plain(model_);
  const auto n = (std::size_t)(model_.hyperparameters.d_k * model_.hyperparameters.n_head_kv);
  ASSERT_EQ(seen.k_rotated.size(), n * kRotated);
  for (std::size_t i = 0; i < (std::size_t)kRotated; ++i) {
    SCOPED_TRACE(i);
    const auto key = plain.rotated(plain.key(token((std::int64_t)i)), positions_[i]);
    expect_near(std::span(seen.k_rotated).subspan(i * n, n), key);
  }
  expect_near(seen.k_plain, plain.key(token(2)));
}

TEST_F(Block, HandsOverOneKindOfKeysWhereAllAreOfIt) {
  const std::vector<float> all = run_block(model_, x_, positions_, kTokens).k_rotated;
  const Seen some = run_block(model_, x_, positions_, kRotated), none = run_block(model_, x_, positions_, 0);
  EXPECT_TRUE(std::equal(some.k_rotated.begin(), some.k_rotated.end(), all.begin()));
  EXPECT_TRUE(none.k_rotated.empty());
  EXPECT_EQ(none.k_plain.size(), all.size());
}

}  // namespace
}  // namespace lacake
