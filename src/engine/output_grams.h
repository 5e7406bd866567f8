#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/loaded_model.h"
#include "place/workers.h"

namespace lacake {

// The matrix that joins a layer's heads (W_O, [n_head * d_v, n_embd]), as products with it count it, row by row.
struct OutputProjection {
  std::size_t n_in = 0;
  std::size_t n_out = 0;
  std::function<void(std::size_t row, float* out)> read;  // any thread

  // Rows that are read together.
  static constexpr std::size_t kAtOnce = 128;
};
// With what adapters add; without the bias that some models add to its products.
OutputProjection output_projection(const LoadedModel& model, int layer);

// G_h = W_O,h' W_O,h of every query head of a layer, with which |W_O,h v|^2 = v'G_h v takes d_v^2 / 2 products instead
// of n_embd * d_v. A layer's are made when they are first asked for, which costs what n_head * d_v^2 / 2 * n_embd
// products do, and then kept.
class OutputGrams {
 public:
  explicit OutputGrams(const Hyperparameters& h) : h_(h), layers_((std::size_t)h.n_layer) {}

  //   rows  scratch [OutputProjection::kAtOnce * n_in]
  // Returns [d_v, d_v, n_head] halves, as attention::quadratic_forms takes them.
  const float* of(int layer, const OutputProjection& output, Workers& workers, std::span<float> rows);
  std::uint64_t bytes() const;
  // Of one layer.
  static std::uint64_t bytes_for(const Hyperparameters& h) {
    return (std::uint64_t)h.n_head * (std::uint64_t)h.d_v * (std::uint64_t)h.d_v * sizeof(float);
  }

 private:
  const Hyperparameters& h_;
  std::vector<std::vector<float>> layers_;
};

}  // namespace lacake
