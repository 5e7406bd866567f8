#include "graph/packed_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "matmul/int8.h"
#include "place/host_place.h"

namespace lacake {
namespace {

constexpr std::size_t kIn = 64;

std::vector<float> numbers(std::size_t n, double step) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = (float)std::sin(step * (double)(i + 1));
  return x;
}

// A matrix, as it is packed and as it is read back.
struct Weights {
  Weights(ggml_type type, std::size_t n_out, double step) {
    const std::vector<float> x = numbers(kIn * n_out, step);
    std::vector<std::byte> stored(ggml_row_size(type, (std::int64_t)kIn) * n_out);
    ggml_quantize_chunk(type, x.data(), stored.data(), 0, (std::int64_t)n_out, (std::int64_t)kIn, nullptr);
    const matmul::Matrix matrix{.data = stored.data(), .type = type, .n_in = kIn, .n_out = n_out};
    memory.resize(matmul::Packed::bytes_for(matrix) + 64);
    auto* at = (std::byte*)(((std::uintptr_t)memory.data() + 63) / 64 * 64);
    packed = std::make_unique<matmul::Packed>(matrix, at);
  }
  std::vector<std::byte> memory;
  std::unique_ptr<matmul::Packed> packed;
};

// Two matrices of unlike types and sizes, the second with a bias.
class PackedProductNode : public testing::Test {
 protected:
  void SetUp() override {
    if (!matmul::has_int8()) GTEST_SKIP() << "no AVX2 here";
  }

  // Columns x [kIn, n] -> [n_out, n]
  std::vector<float> run(const std::vector<float>& x, const std::vector<float>& added, int threads) {
    HostPlace place(threads);
    Graph graph(16);
    PackedProduct product;
    product.parts = {{first_.packed.get(), nullptr}, {second_.packed.get(), bias_.data()}};
    product.norm = {weight_.data(), 1e-5f};
    product.next = &product;  // as in a graph, where there is one to look ahead to
    const auto n = (std::int64_t)(x.size() / kIn);
    ggml_tensor* in = graph.input(GGML_TYPE_F32, (std::int64_t)kIn, n);
    ggml_tensor* plus = graph.input(GGML_TYPE_F32, (std::int64_t)product.n_out(), n);
    ggml_tensor* scratch = graph.input(GGML_TYPE_I8, (std::int64_t)product.scratch_bytes(), threads);
    ggml_tensor* out = packed_product_node(graph, product, in, plus, scratch);
    graph.output(out);
    place.allocate(graph);
    ggml_backend_tensor_set(in, x.data(), 0, x.size() * sizeof(float));
    ggml_backend_tensor_set(plus, added.data(), 0, added.size() * sizeof(float));
    std::vector<float> result((std::size_t)ggml_nelements(out));
    for (int i = 0; i < 2; ++i) place.run(graph);  // ready again after a run
    ggml_backend_tensor_get(out, result.data(), 0, result.size() * sizeof(float));
    return result;
  }

  const Weights first_{GGML_TYPE_Q4_1, 200, 0.7}, second_{GGML_TYPE_Q8_0, 45, 0.3};
  const std::vector<float> bias_ = numbers(45, 1.1), weight_ = numbers(kIn, 0.9);
  const std::size_t n_out_ = 245;
};

TEST_F(PackedProductNode, IsNormThenAllPartsThenBiasThenWhatIsAdded) {
  const std::vector<float> x = numbers(kIn, 2.3), added = numbers(n_out_, 1.7), found = run(x, added, 1);
  double squares = 0;
  for (const float v : x) squares += (double)v * v;
  const double scale = 1 / std::sqrt(squares / kIn + 1e-5);
  std::vector<float> row(kIn);
  for (std::size_t i = 0; i < n_out_; ++i) {
    const bool of_first = i < 200;
    (of_first ? first_ : second_).packed->read_row(of_first ? i : i - 200, row.data());
    double sum = (double)added[i] + (of_first ? 0 : (double)bias_[i - 200]);
    for (std::size_t k = 0; k < kIn; ++k) sum += (double)x[k] * scale * weight_[k] * row[k];
    EXPECT_NEAR(found[i], sum, 0.1) << i;  // columns are of 8 bits
  }
}

TEST_F(PackedProductNode, GivesAColumnTheSameBitsAloneBesideOthersAndOnAnyNumberOfThreads) {
  constexpr std::size_t n = 3;
  const std::vector<float> x = numbers(kIn * n, 2.3), added = numbers(n_out_ * n, 1.7), all = run(x, added, 1);
  for (const int threads : {1, 2, 3}) {
    EXPECT_EQ(run(x, added, threads), all) << threads;
    for (std::size_t c = 0; c < n; ++c) {
      const auto part = [&](const std::vector<float>& of, std::size_t each) {
        return std::vector<float>(of.begin() + (std::ptrdiff_t)(c * each),
                                  of.begin() + (std::ptrdiff_t)((c + 1) * each));
      };
      EXPECT_EQ(run(part(x, kIn), part(added, n_out_), threads), part(all, n_out_))
          << c << ", " << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace lacake
