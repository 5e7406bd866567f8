#include "attention/round.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "attention/row.h"
#include "targets/every_target.h"

namespace lacake::attention {
namespace {

std::vector<float> numbers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

// Queries [d, n] that share a direction.
std::vector<float> queries(std::size_t d, std::size_t n) {
  const std::vector<float> shared = numbers(d, 1);
  std::vector<float> q = numbers(d * n, 2);
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = 0.5f * q[i] + shared[i % d];
  return q;
}

// The mean square of what the stored row adds to the queries' products.
double cost(const std::vector<float>& q, const std::vector<float>& row, const std::vector<std::byte>& stored) {
  const std::size_t d = row.size();
  std::vector<float> read(d);
  load_row(stored.data(), (int)d, GGML_TYPE_Q4_0, read.data());
  double sum = 0;
  for (std::size_t j = 0; j < q.size(); j += d) {
    double product = 0;
    for (std::size_t i = 0; i < d; ++i) product += q[j + i] * (read[i] - row[i]);
    sum += product * product;
  }
  return sum / (double)(q.size() / d);
}

TEST(RoundWeighed, MovesProductsLessThanTheNearestNumbersDo) {
  for (const std::size_t d : {32, 64, 96, 256}) {
    const std::vector<float> q = queries(d, 40);
    std::vector<float> metric(d * d);
    std::vector<std::byte> stored(ggml_row_size(GGML_TYPE_Q4_0, (std::int64_t)d));
    on_every_target([&] {
      weigh(q.data(), 40, d, d, kOthersOfChunk, metric.data());
      double nearest = 0, weighed = 0;
      for (unsigned i = 0; i < 20; ++i) {
        const std::vector<float> row = numbers(d, 10 + i);
        ggml_get_type_traits(GGML_TYPE_Q4_0)->from_float_ref(row.data(), stored.data(), (std::int64_t)d);
        nearest += cost(q, row, stored);
        round_weighed(row.data(), d, GGML_TYPE_Q4_0, metric.data(), stored.data());
        weighed += cost(q, row, stored);
      }
      EXPECT_LT(weighed, nearest / 2) << d;
    });
  }
}

// A token's own queries are few, and those that its key meets later need not resemble them.
TEST(RoundWeighed, ByATokensOwnQueriesCostsOthersLittle) {
  constexpr std::size_t d = 64, n_own = 3, n_others = 200;
  double nearest = 0, weighed = 0;
  std::vector<std::byte> stored(ggml_row_size(GGML_TYPE_Q4_0, d));
  std::vector<float> metric(d * d);
  for (unsigned i = 0; i < 40; ++i) {
    const std::vector<float> own = numbers(d * n_own, 100 + i), others = numbers(d * n_others, 200 + i);
    const std::vector<float> row = numbers(d, 300 + i);
    ggml_get_type_traits(GGML_TYPE_Q4_0)->from_float_ref(row.data(), stored.data(), d);
    nearest += cost(others, row, stored);
    weigh(own.data(), n_own, d, d, kOthersOfToken, metric.data());
    round_weighed(row.data(), d, GGML_TYPE_Q4_0, metric.data(), stored.data());
    weighed += cost(others, row, stored);
  }
  EXPECT_LT(weighed, 1.3 * nearest);
}

// Of queries that look everywhere alike, and of a row of zeros.
TEST(RoundWeighed, IsTheNearestNumberWhereNothingIsWeighed) {
  constexpr std::size_t d = 64;
  std::vector<float> metric(d * d), row = numbers(d, 3);
  std::vector<std::byte> stored(ggml_row_size(GGML_TYPE_Q4_0, d)), nearest(stored.size());
  on_every_target([&] {
    weigh(row.data(), 0, d, d, kOthersOfChunk, metric.data());
    for (const float factor : {1.0f, 0.0f}) {
      std::vector<float> scaled = row;
      for (float& x : scaled) x *= factor;
      round_weighed(scaled.data(), d, GGML_TYPE_Q4_0, metric.data(), stored.data());
      ggml_get_type_traits(GGML_TYPE_Q4_0)->from_float_ref(scaled.data(), nearest.data(), d);
      std::vector<float> a(d), b(d);
      load_row(stored.data(), d, GGML_TYPE_Q4_0, a.data());
      load_row(nearest.data(), d, GGML_TYPE_Q4_0, b.data());
      for (std::size_t i = 0; i < d; ++i)
        EXPECT_NEAR(std::abs(a[i] - scaled[i]), std::abs(b[i] - scaled[i]), 1e-3) << i;
    }
  });
}

}  // namespace
}  // namespace lacake::attention
