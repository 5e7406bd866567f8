#include "calibration/learner.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lacake {
namespace {

constexpr AttentionShape kOneLayer{.n_layer = 1, .n_head = 2, .n_head_kv = 1};

struct Segment {
  std::vector<float> inputs, peak, norm;
  Observation seen() const {
    Observation o;
    o.n_entries = o.n_new = peak.size();
    o.inputs = inputs;
    o.repeat_peak = peak;
    o.value_norm = norm;
    return o;
  }
};

// Inputs of length 3 and 5 (mean 4).
TEST(Target, IsThePeakTimesWhatTheValueAddsByTheLengthOfTheInputs) {
  const Segment s{.inputs = {3, 0, 3, 4}, .peak = {0.5f, -1}, .norm = {8, 8}};
  const std::vector<float> scores = Target::of(s.seen(), 2);
  EXPECT_FLOAT_EQ(scores[0], 0.5f * 8 / 4);
  EXPECT_LT(scores[1], 0) << "of an entry that nothing repeated";
}

// Targets e^(x + 1) of inputs x, of which some are outside of what is learned, or unknown.
TEST(Lessons, LearnTheLogarithmOfWhatIsKnownOfTheTokensTheyAttendTo) {
  Segment s;
  double length = 0;
  for (int i = 0; i < 40; ++i) {
    const float x = 0.1f * (float)(i % 10) - 0.4f;
    s.inputs.push_back(x);
    length += std::abs(x) / 40;
    s.norm.push_back(1);
    s.peak.push_back(i % 7 == 0 ? -1 : std::exp(x + 1));
    if (i < 5 || i >= 35) s.peak.back() = 1e6f;
  }
  Lessons lessons(kOneLayer, 1);
  lessons.attend_to(5, 35);
  lessons.see(s.seen());
  ASSERT_TRUE(lessons.learned(1e-6));
  EXPECT_NEAR(lessons.map(0).weights[0], 1, 1e-4);
  EXPECT_NEAR(lessons.map(0).bias[0], 1 - std::log(length), 1e-4);
  lessons.see(s.seen());
  EXPECT_NEAR(lessons.r2(0), 1, 1e-6);
}

TEST(Lessons, LearnNothingFromWhatWasNotRepeated) {
  Segment s{.inputs = {1, 2}, .peak = {1, 1}, .norm = {1, 1}};
  Observation seen = s.seen();
  seen.repeat_peak = {};
  Lessons lessons(kOneLayer, 1);
  lessons.attend_to(0, 2);
  lessons.see(seen);
  EXPECT_FALSE(lessons.learned(1));
}

}  // namespace
}  // namespace lacake
