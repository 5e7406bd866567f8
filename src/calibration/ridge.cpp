#include "calibration/ridge.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "matmul/f32.h"

namespace lacake {
namespace {

constexpr std::size_t kBlock = 256;  // columns at once
using matmul::kTileRows;

std::size_t first_of_row(std::size_t row) { return row * (row + 1) / 2; }

double dot(const double* a, const double* b, std::size_t n) {
  constexpr std::size_t kSums = 8;
  double sums[kSums] = {};
  std::size_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

// The lower factor of a symmetric matrix in its place, rows packed. False if it is not positive.
bool cholesky(std::vector<double>& a, std::size_t n) {
  for (std::size_t row = 0; row < n; ++row) {
    double* of_row = a.data() + first_of_row(row);
    for (std::size_t column = 0; column < row; ++column) {
      const double* of_column = a.data() + first_of_row(column);
      of_row[column] = (of_row[column] - dot(of_row, of_column, column)) / of_column[column];
    }
    const double pivot = of_row[row] - dot(of_row, of_row, row);
    if (!(pivot > 0)) return false;
    of_row[row] = std::sqrt(pivot);
  }
  return true;
}

// x <- (L L')^-1 x
void substitute(const std::vector<double>& l, std::vector<double>& x) {
  const std::size_t n = x.size();
  for (std::size_t row = 0; row < n; ++row) {
    const double* of_row = l.data() + first_of_row(row);
    x[row] = (x[row] - dot(of_row, x.data(), row)) / of_row[row];
  }
  for (std::size_t row = n; row-- > 0;) {
    const double* of_row = l.data() + first_of_row(row);
    x[row] /= of_row[row];
    for (std::size_t column = 0; column < row; ++column) x[column] -= of_row[column] * x[row];
  }
}

}  // namespace

RidgeSums::RidgeSums(std::size_t n_in, std::size_t n_out)
    : n_in_(n_in),
      n_out_(n_out),
      products_(first_of_row(n_in)),
      sums_(n_in),
      with_y_(n_in * n_out),
      y_sums_(n_out),
      turned_(n_in * kBlock),
      tile_(kBlock * kTileRows),
      out_(n_in * kTileRows) {}

void RidgeSums::add(std::span<const float> x, std::span<const float> y) {
  const std::size_t n = x.size() / n_in_;
  assert(y.size() == n * n_out_);
  for (std::size_t from = 0; from < n; from += kBlock) {
    const std::size_t count = std::min(kBlock, n - from);
    add_block(x.subspan(from * n_in_, count * n_in_), y.subspan(from * n_out_, count * n_out_), count);
  }
}

void RidgeSums::add_block(std::span<const float> x, std::span<const float> y, std::size_t n) {
  if (origin_.empty()) {
    origin_.resize(n_in_);
    for (std::size_t i = 0; i < n_in_; ++i) {
      double sum = 0;
      for (std::size_t c = 0; c < n; ++c) sum += x[c * n_in_ + i];
      origin_[i] = (float)(sum / (double)n);
    }
  }
  for (std::size_t i = 0; i < n_in_; ++i) {
    float* row = turned_.data() + i * kBlock;
    double sum = 0;
    for (std::size_t c = 0; c < n; ++c) {
      row[c] = x[c * n_in_ + i] - origin_[i];
      sum += row[c];
    }
    sums_[i] += sum;
    for (std::size_t target = 0; target < n_out_; ++target) {
      double product = 0;
      for (std::size_t c = 0; c < n; ++c) product += (double)row[c] * y[c * n_out_ + target];
      with_y_[target * n_in_ + i] += product;
    }
  }
  for (std::size_t target = 0; target < n_out_; ++target) {
    for (std::size_t c = 0; c < n; ++c) y_sums_[target] += y[c * n_out_ + target];
  }
  for (std::size_t first = 0; first < n_in_; first += kTileRows) {
    const std::size_t rows = std::min(kTileRows, n_in_ - first), columns = first + rows;
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t c = 0; c < n; ++c) tile_[c * kTileRows + i] = turned_[(first + i) * kBlock + c];
    }
    matmul::multiply_tile_f32(tile_.data(), n, rows, turned_.data(), kBlock, columns, out_.data(), kTileRows);
    for (std::size_t i = 0; i < rows; ++i) {
      double* to = products_.data() + first_of_row(first + i);
      for (std::size_t column = 0; column <= first + i; ++column) to[column] += out_[column * kTileRows + i];
    }
  }
  n_ += n;
}

// Of centred columns: their products are the sums' less n times those of the means.
RidgeSums::Map RidgeSums::solve(double alpha) const {
  if (n_ == 0) return {};
  const auto n = (double)n_;
  std::vector<double> factor = products_;
  for (std::size_t row = 0; row < n_in_; ++row) {
    double* of_row = factor.data() + first_of_row(row);
    for (std::size_t column = 0; column <= row; ++column) of_row[column] -= sums_[row] * sums_[column] / n;
    of_row[row] += alpha;
  }
  if (!cholesky(factor, n_in_)) return {};
  Map map;
  for (std::size_t target = 0; target < n_out_; ++target) {
    std::vector<double> w(with_y_.begin() + (std::ptrdiff_t)(target * n_in_),
                          with_y_.begin() + (std::ptrdiff_t)((target + 1) * n_in_));
    for (std::size_t i = 0; i < n_in_; ++i) w[i] -= sums_[i] * y_sums_[target] / n;
    substitute(factor, w);
    double bias = y_sums_[target] / n;
    for (std::size_t i = 0; i < n_in_; ++i) bias -= w[i] * (sums_[i] / n + origin_[i]);
    map.weights.insert(map.weights.end(), w.begin(), w.end());
    map.bias.push_back((float)bias);
  }
  return map;
}

void R2::add(std::size_t target, double said, double y) {
  errors_[target] += (said - y) * (said - y);
  sums_[target] += y;
  squares_[target] += y * y;
  n_ += target == 0;
}

double R2::of(std::size_t target) const {
  const double around = squares_[target] - sums_[target] * sums_[target] / (double)n_;
  return around > 0 ? 1 - errors_[target] / around : 0;
}

double R2::mean() const {
  double sum = 0;
  for (std::size_t i = 0; i < errors_.size(); ++i) sum += of(i);
  return sum / (double)errors_.size();
}

}  // namespace lacake
