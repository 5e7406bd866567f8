#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "policies/ranked.h"

namespace lacake {

const PolicyType& snapkv_policy();

namespace snapkv {

// What ranks the entries of a running answer: the paper says nothing of it.
//   kMean    a running mean over about the last `window` queries, of which some are looked at
//   kRow     the current query alone, as CAKE does
//   kFrozen  nothing: the prompt's choice stays, and an answer has its window
enum class Decode { kMean, kRow, kFrozen };

// Scores entries by the pooled attention of the last `window` queries, mean over the queries and over the heads that
// share a KV head.
class SnapKv : public RankedPolicy {
 public:
  SnapKv(const Options&, const AttentionShape&, double decay, Decode);

  Measures measures(Phase, int layer, std::size_t n_entries, std::size_t n_new) const override;
  std::unique_ptr<Policy> clone() const override;

 protected:
  std::size_t score(const Observation&, std::size_t list, std::span<float> scores) override;

 private:
  float row_share() const;

  float decay_;
  Decode decode_;
};

// Shared with policies that differ in their layers' sizes only: window, decay, decode, positions, heads, floor.
std::vector<PolicyParameter> parameters(bool joint = true);  // see with_head_parameters
double decay(const PolicyType&, const PolicySettings&);
Decode decode(const PolicyType&, const PolicySettings&);

}  // namespace snapkv
}  // namespace lacake
