#include "eval/intervals.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace lacake::eval {
namespace {

constexpr double kNormal = 1.959963985;  // 97.5 % of a normal distribution
constexpr double kRounding = 1e-20;      // variances below it are none

// The same of Student's distribution; the expansion in 1 / degrees is within 1 % from 3 on.
double student(std::size_t degrees) {
  if (degrees == 0) return INFINITY;
  if (degrees == 1) return 12.706;
  if (degrees == 2) return 4.303;
  const double z = kNormal, v = (double)degrees, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
  return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
}

// Values that an estimate is the sum of, by stratum and text.
class Spread {
 public:
  void add(const Draw& draw, double value) {
    auto& [sum, n] = strata_[draw.stratum][draw.text.empty() ? "\n" + std::to_string(n_++) : draw.text];
    sum += value;
    ++n;
  }

  std::size_t texts() const {
    std::size_t n = 0;
    for (const auto& [stratum, texts] : strata_) n += texts.size();
    return n;
  }

  // The variance of the sum of all values, and its degrees of freedom; 0 of both for a single text.
  struct Variance {
    double value = 0;
    std::size_t degrees = 0;
  };
  Variance variance() const {
    std::vector<double> alone;  // texts of strata with no other
    Variance all;
    const auto add = [&](const std::vector<double>& sums) {
      const double n = (double)sums.size();
      double mean = 0, squares = 0;
      for (const double sum : sums) mean += sum / n;
      for (const double sum : sums) squares += (sum - mean) * (sum - mean);
      all.value += squares * n / (n - 1);
      all.degrees += sums.size() - 1;
    };
    for (const auto& [stratum, texts] : strata_) {
      std::vector<double> sums;
      for (const auto& [text, sum] : texts) sums.push_back(sum.first);
      if (sums.size() > 1) {
        add(sums);
      } else {
        alone.push_back(sums.front());
      }
    }
    if (alone.size() > 1) add(alone);
    return all;
  }

 private:
  std::map<std::string, std::map<std::string, std::pair<double, std::size_t>>> strata_;
  std::size_t n_ = 0;
};

// What n texts that all agree leave open: the largest share of which n draws would, with 2.5 %, show none.
double open_share(std::size_t n) { return 1 - std::pow(0.025, 1 / (double)n); }

Interval around(double value, const Spread& spread, std::size_t n, double unit) {
  Interval interval{.value = value, .n = n, .texts = spread.texts()};
  const Spread::Variance variance = spread.variance();
  const double half = variance.value > kRounding ? student(variance.degrees) * std::sqrt(variance.value)
                                                 : unit * open_share(interval.texts);
  interval.low = value - half;
  interval.high = value + half;
  return interval;
}

// Wilson's interval for the variance that a mean has.
Interval within_unit(double value, const Spread& spread, std::size_t n) {
  Interval interval{.value = value, .n = n, .texts = spread.texts()};
  const Spread::Variance variance = spread.variance();
  const bool known = variance.value > kRounding && value > 0 && value < 1;
  const double draws = known ? value * (1 - value) / variance.value : (double)interval.texts;
  const double z = known ? student(variance.degrees) : kNormal, z2 = z * z / draws;
  const double middle = (value + z2 / 2) / (1 + z2);
  const double half = std::sqrt(z2 * value * (1 - value) + z2 * z2 / 4) / (1 + z2);
  interval.low = std::clamp(middle - half, 0.0, value);
  interval.high = std::clamp(middle + half, value, 1.0);
  return interval;
}

}  // namespace

Interval mean(const std::vector<Draw>& draws) {
  const double n = (double)draws.size();
  Spread spread;
  double value = 0;
  for (const Draw& draw : draws) {
    value += draw.value / n;
    spread.add(draw, draw.value / n);
  }
  return within_unit(std::clamp(value, 0.0, 1.0), spread, draws.size());
}

Interval difference(const std::vector<Draw>& draws) {
  const double n = (double)draws.size();
  Spread spread;
  double value = 0;
  for (const Draw& draw : draws) {
    value += (draw.value - draw.other) / n;
    spread.add(draw, (draw.value - draw.other) / n);
  }
  return around(value, spread, draws.size(), 1);
}

Interval ratio(const std::vector<Draw>& draws) {
  double value = 0, other = 0;
  for (const Draw& draw : draws) value += draw.value, other += draw.other;
  if (other <= 0) return {.n = draws.size()};
  const double share = value / other;
  Spread spread;
  for (const Draw& draw : draws) spread.add(draw, (draw.value - share * draw.other) / other);
  Interval interval = around(share, spread, draws.size(), (double)draws.size() / other);
  interval.low = std::max(interval.low, 0.0);
  return interval;
}

Interval mean_of_strata(const std::vector<Draw>& draws) {
  std::map<std::string, double> sizes;
  for (const Draw& draw : draws) sizes[draw.stratum] += 1;
  Spread spread;
  double value = 0;
  for (const Draw& draw : draws) {
    const double part = draw.value / sizes[draw.stratum] / (double)sizes.size();
    value += part;
    spread.add(draw, part);
  }
  return within_unit(std::clamp(value, 0.0, 1.0), spread, draws.size());
}

}  // namespace lacake::eval
