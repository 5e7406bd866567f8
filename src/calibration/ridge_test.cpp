#include "calibration/ridge.h"

#include <gtest/gtest.h>

#include <random>

namespace lacake {
namespace {

// x = 1, 2, 4, y = 2, 3, 7 around their means 7/3 and 4: x'x = 14/3, x'y = 8; w = 8 / (14/3 + alpha).
TEST(Ridge, OfOneNumberIsTheClosedForm) {
  RidgeSums sums(1, 1);
  const std::vector<float> x = {1, 2, 4}, y = {2, 3, 7};
  sums.add(x, y);
  for (const double alpha : {0.0, 1.0, 10.0}) {
    const RidgeSums::Map map = sums.solve(alpha);
    const double w = 8 / (14.0 / 3 + alpha);
    EXPECT_NEAR(map.weights[0], w, 1e-6);
    EXPECT_NEAR(map.bias[0], 4 - w * 7 / 3, 1e-6);
  }
}

// Two numbers and two targets: (X'X + alpha) w = X'y solved by hand for centred
//   x1 = -1 0 1 0, x2 = 0 -1 0 1 (products 2, 2 and 0 between): w = X'y / (2 + alpha)
TEST(Ridge, OfTwoNumbersAndTwoTargetsIsTheClosedForm) {
  RidgeSums sums(2, 2);
  const std::vector<float> x = {9, 5, 10, 4, 11, 5, 10, 6};  // with means 10 and 5
  const std::vector<float> y = {1, 0, 2, 4, 3, 8, 2, 4};     // centred: -1 0 1 0 and -4 0 4 0
  sums.add(x, y);
  const RidgeSums::Map map = sums.solve(2);
  const std::vector<float> weights = {0.5f, 0, 2, 0}, bias = {2 - 0.5f * 10, 4 - 2.0f * 10};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(map.weights[i], weights[i], 1e-5);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(map.bias[i], bias[i], 1e-4);
}

struct Problem {
  std::size_t n_in, n;
  std::vector<float> x, y, weights;
};

// Columns far from 0, of which some numbers are a thousand times as large as others; y is a map of them and noise.
Problem problem(std::size_t n_in, std::size_t n, float noise) {
  std::mt19937 random(3);
  const auto number = [&] { return (float)(random() >> 8) * 0x1p-23f - 1; };
  Problem p{n_in, n, std::vector<float>(n_in * n), std::vector<float>(n), std::vector<float>(n_in)};
  for (std::size_t i = 0; i < n_in; ++i) p.weights[i] = number() / (i % 7 == 0 ? 100.0f : 1.0f);
  for (std::size_t c = 0; c < n; ++c) {
    p.y[c] = 3 + noise * number();
    for (std::size_t i = 0; i < n_in; ++i) {
      p.x[c * n_in + i] = (number() + 2) * (i % 7 == 0 ? 100.0f : 1.0f);
      p.y[c] += p.weights[i] * p.x[c * n_in + i];
    }
  }
  return p;
}

// More numbers than a tile has rows, more columns than a block.
TEST(Ridge, FindsTheMapThatMadeTheTargets) {
  const Problem p = problem(70, 900, 0);
  RidgeSums sums(70, 1);
  sums.add(p.x, p.y);
  EXPECT_EQ(sums.n_columns(), 900u);
  const RidgeSums::Map map = sums.solve(1e-6);
  for (std::size_t i = 0; i < 70; ++i) EXPECT_NEAR(map.weights[i], p.weights[i], 1e-3);
  EXPECT_NEAR(map.bias[0], 3, 0.05);
}

TEST(Ridge, DoesNotDependOnHowColumnsComeByMoreThanRounding) {
  const Problem p = problem(40, 600, 1);
  RidgeSums whole(40, 1), parts(40, 1);
  whole.add(p.x, p.y);
  for (std::size_t from = 0; from < p.n; from += 90) {
    const std::size_t n = std::min<std::size_t>(90, p.n - from);
    parts.add(std::span(p.x).subspan(from * 40, n * 40), std::span(p.y).subspan(from, n));
  }
  const RidgeSums::Map a = whole.solve(1), b = parts.solve(1);
  for (std::size_t i = 0; i < 40; ++i) EXPECT_NEAR(a.weights[i], b.weights[i], 1e-4);
}

// More numbers than columns: alpha alone makes it determined.
TEST(Ridge, NeedsAlphaWhereColumnsAreFew) {
  const Problem p = problem(30, 10, 1);
  RidgeSums sums(30, 1);
  EXPECT_TRUE(sums.solve(1).weights.empty());
  sums.add(p.x, p.y);
  EXPECT_EQ(sums.solve(1).weights.size(), 30u);
}

TEST(R2, IsTheShareOfTheSquaresThatIsSaid) {
  R2 r2(2);
  const double y[] = {1, 2, 3, 6}, said[] = {1, 2, 4, 6};
  for (int i = 0; i < 4; ++i) {
    r2.add(0, said[i], y[i]);
    r2.add(1, 3, y[i]);  // the mean
  }
  EXPECT_NEAR(r2.of(0), 1 - 1.0 / 14, 1e-12);
  EXPECT_NEAR(r2.of(1), 0, 1e-12);
  EXPECT_NEAR(r2.mean(), (1 - 1.0 / 14) / 2, 1e-12);
}

}  // namespace
}  // namespace lacake
