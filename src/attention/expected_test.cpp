#include "attention/expected.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "attention/forms.h"
#include "targets/every_target.h"

namespace lacake::attention {
namespace {

// Two queries (3, 1) and (5, 1): mean (4, 1), covariance [[1, 0], [0, 0]]. Key (2, 1), scale 0.5, no rotation:
// 0.5 * 9 + 0.125 * 4.
TEST(ExpectedLogits, FollowTheFormula) {
  const std::vector<float> queries = {3, 1, 5, 1}, key = {2, 1};
  std::vector<float> learnt(query_floats(2)), block(2 * kFormEntries), out(kFormEntries);
  add_queries(queries.data(), 2, 2, 2, true, learnt.data());
  turn_queries(2, 2, 0.5f, {}, learnt.data());
  put_in_block(key.data(), 2, 3, block.data());
  expected_logits(learnt.data(), 2, block.data(), out.data());
  EXPECT_FLOAT_EQ(out[3], 5.0f);
}

// A quarter turn of the queries is as one back of the keys.
TEST(ExpectedLogits, AreOfTurnedQueries) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const bool neox : {true, false}) {
    std::vector<float> queries(6 * 20), key(6), turned(6);
    for (float& x : queries) x = normal(random);
    for (float& x : key) x = normal(random);
    const std::vector<float> quarter = {0, 0, 1, 1};  // of the first four dimensions
    turned = key;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::size_t a = neox ? i : 2 * i, b = neox ? i + 2 : 2 * i + 1;
      turned[a] = key[b];
      turned[b] = -key[a];
    }
    const auto logit = [&](const std::vector<float>& k, const Rope& turn) {
      std::vector<float> learnt(query_floats(6)), block(6 * kFormEntries), out(kFormEntries);
      add_queries(queries.data(), 20, 6, 6, true, learnt.data());
      turn_queries(20, 6, 0.4f, turn, learnt.data());
      put_in_block(k.data(), 6, 0, block.data());
      expected_logits(learnt.data(), 6, block.data(), out.data());
      return out[0];
    };
    EXPECT_NEAR(logit(key, {.table = quarter.data(), .n_rot = 4, .neox = neox}), logit(turned, {}), 1e-5f);
  }
}

// Queries far from 0, in parts: the mean and covariance of all of them.
TEST(AddQueries, LosesNothingOfASmallSpreadAroundALargeMean) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  constexpr std::size_t kSize = 9, kQueries = 300;
  std::vector<float> queries(kSize * kQueries);
  for (std::size_t i = 0; i < queries.size(); ++i) queries[i] = 200.0f * (float)(i % kSize) + 0.5f * normal(random);
  std::vector<float> key(kSize);
  for (float& x : key) x = normal(random);

  std::vector<double> mean(kSize);
  for (std::size_t i = 0; i < queries.size(); ++i) mean[i % kSize] += queries[i] / (double)kQueries;
  double linear = 0, square = 0;
  for (std::size_t c = 0; c < kSize; ++c) linear += mean[c] * key[c];
  for (std::size_t j = 0; j < kQueries; ++j) {
    double off = 0;
    for (std::size_t c = 0; c < kSize; ++c) off += (queries[j * kSize + c] - mean[c]) * key[c];
    square += off * off / kQueries;
  }
  on_every_target([&] {
    std::vector<float> learnt(query_floats(kSize)), block(kSize * kFormEntries), out(kFormEntries);
    add_queries(queries.data(), 100, kSize, kSize, true, learnt.data());
    add_queries(queries.data() + 100 * kSize, 200, kSize, kSize, false, learnt.data());
    turn_queries(kQueries, kSize, 1, {}, learnt.data());
    put_in_block(key.data(), kSize, 5, block.data());
    expected_logits(learnt.data(), kSize, block.data(), out.data());
    EXPECT_NEAR(out[5], linear + square / 2, 1e-6 * std::abs(linear) + 1e-5 * square);
  });
}

TEST(MeanRotation, IsOfEachCosineAndSine) {
  const std::vector<float> table = {1, 0, 0.5f, 1};
  std::vector<float> mean(2);
  mean_rotation(table, 2, mean);
  EXPECT_EQ(mean, (std::vector<float>{0.75f, 0.5f}));
}

TEST(AddSoftmax, AddsItsShareHoweverLargeTheLogits) {
  std::vector<float> logits = {1000, 1000 + std::log(3.0f)}, sums = {1, 1};
  add_softmax(logits, 0.5f, sums.data());
  EXPECT_NEAR(sums[0], 1.125f, 1e-5f);
  EXPECT_NEAR(sums[1], 1.375f, 1e-5f);
}

}  // namespace
}  // namespace lacake::attention
