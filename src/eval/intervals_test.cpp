#include "eval/intervals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace lacake::eval {
namespace {

std::vector<Draw> draws(const std::vector<double>& values, const std::vector<double>& others = {}) {
  std::vector<Draw> all;
  for (std::size_t i = 0; i < values.size(); ++i) {
    all.push_back({.value = values[i], .other = others.empty() ? 0 : others[i]});
  }
  return all;
}

TEST(Intervals, OfAllOrNothingSayWhatSoManySamplesLeaveOpen) {
  const Interval none = mean(draws(std::vector<double>(48, 0)));
  EXPECT_EQ(none.low, 0);
  EXPECT_NEAR(none.high, 0.074, 5e-4);  // Wilson's, by a table
  const Interval all = mean(draws(std::vector<double>(48, 1)));
  EXPECT_NEAR(all.low, 1 - none.high, 1e-12);
  EXPECT_EQ(all.high, 1);
  const Interval equal = difference(draws({1, 0, 1, 1}, {1, 0, 1, 1}));
  EXPECT_EQ(equal.value, 0);
  EXPECT_NEAR(equal.high, 1 - std::pow(0.025, 0.25), 1e-12);
}

TEST(Intervals, OfPairsAreTighterThanThoseOfTheirScores) {
  // Both miss the same half; the one misses two more.
  std::vector<double> a, b;
  for (int i = 0; i < 40; ++i) b.push_back(i % 2), a.push_back(i < 4 ? 0 : i % 2);
  const Interval less = difference(draws(a, b));
  EXPECT_NEAR(less.value, -0.05, 1e-12);
  EXPECT_LT(less.half(), mean(draws(a)).half() / 2);
  const Interval share = ratio(draws(a, b));
  EXPECT_NEAR(share.value, 0.9, 1e-12);
  EXPECT_GT(share.low, 0.7);
  EXPECT_LT(share.low, 0.9);
}

TEST(Intervals, TakeQuestionsAboutOneTextForOneDraw) {
  std::vector<Draw> apart, together;
  for (int text = 0; text < 12; ++text) {
    for (int q = 0; q < 10; ++q) {
      Draw draw{.value = (double)(text % 2)};
      apart.push_back(draw);
      draw.text = std::to_string(text);
      together.push_back(draw);
    }
  }
  EXPECT_EQ(mean(together).texts, 12u);
  EXPECT_EQ(mean(together).n, 120u);
  EXPECT_GT(mean(together).half(), 2.5 * mean(apart).half());
}

TEST(Intervals, LeaveOutWhatDiffersBetweenTasks) {
  std::vector<Draw> tasks;
  for (int i = 0; i < 20; ++i) {
    const bool easy = i < 10;
    tasks.push_back({.stratum = easy ? "easy" : "hard", .value = easy ? 0.9 + 0.01 * (i % 2) : 0.1 + 0.01 * (i % 2)});
  }
  std::vector<Draw> one = tasks;
  for (Draw& draw : one) draw.stratum.clear();
  EXPECT_LT(mean(tasks).half(), mean(one).half() / 5);
  EXPECT_NEAR(mean_of_strata(tasks).value, mean(tasks).value, 1e-12);
  tasks.push_back({.stratum = "third", .value = 1});
  EXPECT_NEAR(mean_of_strata(tasks).value, (0.905 + 0.105 + 1) / 3, 1e-12);
}

// The promise itself, on draws whose mean is known.
TEST(Intervals, HoldTheTruthAsOftenAsTheySay) {
  std::mt19937 random(1);
  std::size_t of_mean = 0, of_difference = 0;
  constexpr int kRuns = 2000;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<double> a, b;
    for (int i = 0; i < 24; ++i) {
      const double skill = std::uniform_real_distribution<>(0, 1)(random);
      a.push_back(std::bernoulli_distribution(0.6 * skill + 0.3)(random));  // 0.6 on the mean
      b.push_back(std::bernoulli_distribution(0.6 * skill + 0.1)(random));  // 0.4
    }
    const Interval m = mean(draws(a)), d = difference(draws(a, b));
    of_mean += m.low <= 0.6 && 0.6 <= m.high;
    of_difference += d.low <= 0.2 && 0.2 <= d.high;
  }
  EXPECT_NEAR((double)of_mean / kRuns, 0.95, 0.02);
  EXPECT_NEAR((double)of_difference / kRuns, 0.95, 0.02);
}

}  // namespace
}  // namespace lacake::eval
