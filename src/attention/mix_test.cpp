#include "attention/mix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "attention/row.h"
#include "targets/every_target.h"

namespace lacake::attention {
namespace {

// Powers of two below and above a vector, and heads that are none.
constexpr std::size_t kSizes[] = {1, 2, 7, 8, 16, 32, 40, 64, 80, 96, 112, 128, 160, 192, 256, 512, 576, 1024};

std::vector<float> numbers(std::size_t n) {
  std::mt19937 random((unsigned)n);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

TEST(Mix, BlocksAreTheLargestPowersOfTwoThatDivideARow) {
  EXPECT_EQ(mix_block(64), 64u);
  EXPECT_EQ(mix_block(80), 16u);
  EXPECT_EQ(mix_block(96), 32u);
  EXPECT_EQ(mix_block(7), 1u);
  EXPECT_EQ(mix_block(2048), kMostMixed);
}

TEST(Mix, OnlyTypesOfFewerThanEightBits) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
    EXPECT_FALSE(is_mixed(type)) << ggml_type_name(type);
  }
  for (const ggml_type type : {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL}) {
    EXPECT_TRUE(is_mixed(type)) << ggml_type_name(type);
  }
}

TEST(Mix, TheMatrixIsItsOwnInverse) {
  for (const std::size_t block : {1, 2, 8, 32, 64}) {
    for (std::size_t row = 0; row < block; ++row) {
      for (std::size_t other = 0; other < block; ++other) {
        double product = 0;
        for (std::size_t i = 0; i < block; ++i) {
          product += reference::mix_element(block, row, i) * reference::mix_element(block, i, other);
        }
        ASSERT_NEAR(product, row == other ? 1 : 0, 1e-12) << block << ": " << row << ", " << other;
      }
    }
  }
}

TEST(Mix, EqualsTheMatrixOnEveryTarget) {
  for (const std::size_t d : kSizes) {
    SCOPED_TRACE(d);
    constexpr std::size_t kRows = 3;
    const std::vector<float> rows = numbers(kRows * d);
    std::vector<double> truth(kRows * d);
    for (std::size_t i = 0; i < kRows; ++i) reference::mix(rows.data() + i * d, d, truth.data() + i * d);
    std::vector<float> first;
    on_every_target([&] {
      std::vector<float> mixed = rows;
      mix(mixed.data(), d, kRows);
      for (std::size_t i = 0; i < mixed.size(); ++i) ASSERT_NEAR(mixed[i], truth[i], 2e-6) << i;
      // A file that was written with one instruction set is read with another.
      if (first.empty()) first = mixed;
      EXPECT_EQ(std::memcmp(first.data(), mixed.data(), mixed.size() * sizeof(float)), 0);
      mix(mixed.data(), d, kRows);
      for (std::size_t i = 0; i < mixed.size(); ++i) ASSERT_NEAR(mixed[i], rows[i], 2e-6) << i;
    });
  }
}

TEST(Mix, LeavesProductsAndLengthsAsTheyAre) {
  for (const std::size_t d : kSizes) {
    std::vector<float> q = numbers(2 * d);
    const auto product = [&](std::size_t a, std::size_t b) {
      double sum = 0;
      for (std::size_t i = 0; i < d; ++i) sum += (double)q[a * d + i] * q[b * d + i];
      return sum;
    };
    const double before = product(0, 1), length = product(0, 0);
    mix(q.data(), d, 2);
    EXPECT_NEAR(product(0, 1), before, 1e-5 * std::sqrt((double)d)) << d;
    EXPECT_NEAR(product(0, 0), length, 1e-6 * length) << d;
  }
}

TEST(Mix, SpreadsANumberThatStandsOut) {
  std::vector<float> row(64, 0.0f);
  row[17] = 100;
  mix(row.data(), row.size());
  for (const float x : row) EXPECT_FLOAT_EQ(std::abs(x), 100.0f / 8);
}

TEST(Mix, WhatIsStoredMixedIsReadAsItWas) {
  const std::vector<float> row = numbers(96);
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q5_1, GGML_TYPE_Q4_0}) {
    std::vector<std::byte> stored(ggml_row_size(type, 96));
    std::vector<float> read(row.size()), raw(row.size());
    store_row(row.data(), 96, type, stored.data());
    load_row(stored.data(), 96, type, raw.data());
    read_row(stored.data(), 96, type, read.data());
    double off = 0, off_raw = 0;
    for (std::size_t i = 0; i < row.size(); ++i) {
      off += std::pow(read[i] - row[i], 2) / 96;
      off_raw += std::pow(raw[i] - row[i], 2) / 96;
    }
    EXPECT_LT(off, 0.02) << ggml_type_name(type);
    EXPECT_EQ(off_raw > 0.5, is_mixed(type)) << ggml_type_name(type);
  }
}

// Sixteen rows of which a block has a number twenty times the others.
TEST(Mix, SavesTheOthersFromANumberThatStandsOut) {
  double plain = 0, mixed = 0;
  for (unsigned i = 0; i < 16; ++i) {
    std::vector<float> row = numbers(64 + i), read(64);
    row[i] *= 20;
    std::vector<std::byte> stored(ggml_row_size(GGML_TYPE_Q4_0, 64));
    const auto off = [&] {
      double sum = 0;
      for (std::size_t d = 0; d < 64; ++d) sum += d == i ? 0 : std::pow(read[d] - row[d], 2);
      return sum;
    };
    ggml_get_type_traits(GGML_TYPE_Q4_0)->from_float_ref(row.data(), stored.data(), 64);
    load_row(stored.data(), 64, GGML_TYPE_Q4_0, read.data());
    plain += off();
    store_row(row.data(), 64, GGML_TYPE_Q4_0, stored.data());
    read_row(stored.data(), 64, GGML_TYPE_Q4_0, read.data());
    mixed += off();
  }
  EXPECT_LT(mixed, plain / 2);
}

}  // namespace
}  // namespace lacake::attention
