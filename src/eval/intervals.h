#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace lacake::eval {

// One observation. Questions about one text are not independent of each other, so those of one `text` count as one
// draw. The tasks of a benchmark are not drawn, they are what they are: only what differs within a `stratum` is chance.
struct Draw {
  std::string stratum, text;
  double value = 0;
  double other = 0;  // of what it is held against, on the same sample
};

struct Interval {
  double value = 0, low = 0, high = 0;
  std::size_t n = 0;      // observations
  std::size_t texts = 0;  // that they are about

  double half() const { return (high - low) / 2; }
};

// 95 % intervals. Each estimate is linear in the observations, or made so: its variance is that of the texts' sums
// within each stratum (a stratum of one text joins the others), its factor Student's, by the texts less the strata.
//
//   mean        of values from 0 to 1: Wilson's interval for as many yes-or-no answers as have that variance. So it
//               stays within 0 and 1, and 0 of 48 says "up to 7 %", not "0 for certain".
//   difference  of values to the others', pair by pair
//   ratio       of the values' mean to the others', pair by pair; all 0 where the others' mean is
//
// Where no pair differs, the interval of a difference is that of the share of texts that could still: 1 - 0.025^(1/n).
// REQUIRES: at least one draw.
Interval mean(const std::vector<Draw>& draws);
Interval difference(const std::vector<Draw>& draws);
Interval ratio(const std::vector<Draw>& draws);

// The mean of each stratum's mean, so that tasks weigh alike however many samples they have.
Interval mean_of_strata(const std::vector<Draw>& draws);

}  // namespace lacake::eval
