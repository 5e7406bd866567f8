#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace lacake {

// Ridge regression of several targets on the same columns, from sums that are added up while columns pass by: nothing
// of the columns is kept. Takes n_in^2 / 2 doubles. One thread at a time.
//
// Solves min over w, b of  sum over columns (w . x + b - y)^2 + alpha |w|^2.
class RidgeSums {
 public:
  RidgeSums(std::size_t n_in, std::size_t n_out);

  //   x  [n_in, n]
  //   y  [n_out, n]
  // Costs n_in^2 / 2 multiply-adds a column, in f32 within 256 columns and in f64 above that.
  void add(std::span<const float> x, std::span<const float> y);
  std::size_t n_columns() const { return n_; }

  struct Map {
    std::vector<float> weights;  // [n_in, n_out]
    std::vector<float> bias;     // [n_out]
  };
  // Empty where the columns do not determine it: there are none, or alpha is too small for them.
  Map solve(double alpha) const;

 private:
  void add_block(std::span<const float> x, std::span<const float> y, std::size_t n);

  std::size_t n_in_, n_out_, n_ = 0;
  // Columns are counted from the first block's mean, so that what all have in common costs no digits.
  std::vector<float> origin_;
  std::vector<double> products_;  // of x with itself, [row * (row + 1) / 2 + column], column <= row
  std::vector<double> sums_;      // of x
  std::vector<double> with_y_;    // of x with y, [n_in, n_out]
  std::vector<double> y_sums_;
  // Of one block: columns as rows and as tiles (matmul/f32.h), products of a tile.
  std::vector<float> turned_, tile_, out_;
};

// How well a map says what it has not learned from: 1 - squared errors / squares around the mean, for each target.
class R2 {
 public:
  explicit R2(std::size_t n_out) : errors_(n_out), sums_(n_out), squares_(n_out) {}
  void add(std::size_t target, double said, double y);
  // 0 where all y are alike.
  double of(std::size_t target) const;
  double mean() const;

 private:
  std::vector<double> errors_, sums_, squares_;
  std::size_t n_ = 0;  // of target 0
};

}  // namespace lacake
