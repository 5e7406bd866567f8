#pragma once

// What a user can say of trellis (README.md), and what it comes to.

#include <cstddef>
#include <vector>

#include "lacake/policy_author.h"
#include "policies/ranked.h"

namespace lacake::trellis {

// Of the policy itself; what it shares with others are RankedPolicy::Options.
struct Settings {
  std::size_t rows = 1;
  std::size_t rows_behind = 1;  // of a question whose text was read before it
  std::size_t preference = 0;
  float gamma = 0;
  float onward = 0;
  float spread = 0;
  double memory = 0;
  double recent = 0;
  double ladder = 0;
  std::size_t every = 0;  // 0: by C
  bool learned = false;   // worth is what the model's calibration says
  float worth = 0;
  float defence = 0;
  float length = 0;
  double regions = 0;
};

std::vector<PolicyParameter> parameters();

// Completes `options`, which hold what shared parameters say. Throws Error(kUsage) for what contradicts itself or would
// have no effect, and for learned=on without a calibration.
Settings read_settings(const PolicySettings& given, const AttentionShape& shape, RankedPolicy::Options& options);

// A model's calibration is used where it is there (PolicyType::settings_at_opening).
PolicySettings settings_at_opening(const PolicySettings& given, const AttentionShape& shape, double share);

}  // namespace lacake::trellis
