#include "attention/forms.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "targets/every_target.h"

namespace lacake::attention {
namespace {

std::vector<float> random_numbers(std::size_t n, unsigned seed, float off = 0) {
  std::mt19937 random(seed);
  std::vector<float> numbers(n);
  for (float& x : numbers) x = off + std::normal_distribution<float>()(random);
  return numbers;
}

// Head sizes that fill vectors and ones that do not.
constexpr std::size_t kSizes[] = {64, 80, 7, 33, 1};

void expect_close(const std::vector<float>& expected, const std::vector<float>& found, double scale) {
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], 2e-6 * scale) << i;
}

TEST(QuadraticForms, AreThoseOfTheReference) {
  for (const std::size_t d : kSizes) {
    std::vector<float> matrix = random_numbers(d * d, 1);
    take_halves(matrix.data(), d);
    const std::vector<float> linear = random_numbers(d, 2), block = random_numbers(d * kFormEntries, 3);
    for (const float* b : {linear.data(), (const float*)nullptr}) {
      std::vector<float> expected(kFormEntries), found(kFormEntries);
      reference::quadratic_forms(matrix.data(), b, d, block.data(), expected.data());
      on_every_target([&] {
        quadratic_forms(matrix.data(), b, d, block.data(), found.data());
        expect_close(expected, found, (double)(d * d));
      });
    }
  }
}

// (1, 2) with A = [[1, 3], [3, 5]] and b = (10, 20): 1 + 2 * 2 * 3 + 4 * 5 + 10 + 40.
TEST(QuadraticForms, TakeTheSymmetricMatrixTheyWereMadeOf) {
  std::vector<float> matrix = {1, 3, 3, 5}, block(2 * kFormEntries), out(kFormEntries);
  take_halves(matrix.data(), 2);
  const std::vector<float> x = {1, 2}, linear = {10, 20};
  put_in_block(x.data(), 2, 17, block.data());
  quadratic_forms(matrix.data(), linear.data(), 2, block.data(), out.data());
  EXPECT_EQ(out[17], 83.0f);
  EXPECT_EQ(out[16], 0.0f);
}

TEST(AbsoluteProducts, AreThoseOfTheReferenceAndAdded) {
  for (const std::size_t d : kSizes) {
    for (const std::size_t n_rows : {1, 4, 9}) {
      const std::size_t stride = d + 5;
      const std::vector<float> rows = random_numbers(n_rows * stride, 4), block = random_numbers(d * kFormEntries, 5);
      std::vector<float> expected(kFormEntries, 3.0f);
      reference::add_absolute_products(rows.data(), n_rows, stride, d, block.data(), expected.data());
      on_every_target([&] {
        std::vector<float> found(kFormEntries, 3.0f);
        add_absolute_products(rows.data(), n_rows, stride, d, block.data(), found.data());
        expect_close(expected, found, (double)(d * n_rows));
      });
    }
  }
}

// About a pivot far from 0, as the queries of models with biases are.
TEST(OuterProducts, AreThoseOfTheReferenceAndAdded) {
  for (const std::size_t d : kSizes) {
    const std::size_t n = 37, stride = d + 3;
    const std::vector<float> rows = random_numbers(n * stride, 6, 100), pivot(d, 100.0f);
    std::vector<float> expected(d * d, 2.0f);
    reference::add_outer_products(rows.data(), n, stride, pivot.data(), d, expected.data());
    on_every_target([&] {
      std::vector<float> found(d * d, 2.0f);
      add_outer_products(rows.data(), n, stride, pivot.data(), d, found.data());
      for (std::size_t r = 0; r < d; ++r) {
        for (std::size_t c = 0; c <= r; ++c) EXPECT_NEAR(found[r * d + c], expected[r * d + c], 1e-4) << r << " " << c;
      }
    });
  }
}

}  // namespace
}  // namespace lacake::attention
