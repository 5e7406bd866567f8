#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "lacake/policy_author.h"
#include "policies/lacache/ladder.h"

namespace lacake {

const PolicyType& lacache_policy();

namespace lacache {

// The query's RoPE index: that of its own key, or the counter of the official ppl/run.py, which drifts.
enum class Query { kOwn, kScript };

class LaCache final : public Policy {
 public:
  // REQUIRES: cache_size >= least_cache_size(settings).
  LaCache(const Settings&, std::size_t cache_size, Query);

  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int layer, std::size_t n_entries, std::size_t n_new) const override;
  void update(const Observation&, CacheEdits&) override;
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override;
  std::size_t reserve(int layer, int head) const override;
  void resize(std::size_t cache_size, CacheEdits&) override;
  std::unique_ptr<Policy> clone() const override;
  void visit(PolicyFields& state) override;

  std::size_t cursor() const { return cursor_; }
  std::size_t cache_size() const { return cache_size_; }  // the one in force: compensated after the first overflow

 private:
  Plan plan_for(std::size_t n_entries) const;
  std::int64_t query_position(std::size_t n_kept) const;

  PolicyTraits traits_;
  Settings settings_;
  std::size_t cache_size_;
  std::size_t compensated_size_;
  std::size_t cursor_;
  Query query_;
  std::int64_t last_query_ = -1;  // where the last query stood; -1: there was none
  std::size_t n_held_ = 0;        // entries of every layer between segments
  Plan plan_;                     // of the segment in flight, made at layer 0
};

}  // namespace lacache
}  // namespace lacake
