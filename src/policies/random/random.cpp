#include "policies/random/random.h"

#include <algorithm>

#include "policies/parameters.h"
#include "policies/ranked.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

// A number in [0, 1) for a token in a list: the same for the same seed, whatever came before.
float drawn(std::uint64_t seed, std::uint64_t list, std::uint64_t token) {
  std::uint64_t x = (seed * 0x9e3779b97f4a7c15u + list) * 0xbf58476d1ce4e5b9u + token;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (float)((x ^ (x >> 31)) >> 40) / (float)(1 << 24);
}

// Every entry draws once, and the highest stay: at any time a fair sample of all that was fed.
class Random final : public RankedPolicy {
 public:
  Random(const Options& options, const AttentionShape& shape, std::uint64_t seed)
      : RankedPolicy(options, shape), seed_(seed) {}

  Measures measures(Phase, int, std::size_t, std::size_t) const override { return {}; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Random>(*this); }

 protected:
  std::size_t score(const Observation& seen, std::size_t list, std::span<float> scores) override {
    const auto n_head_kv = (std::size_t)shape().n_head_kv;
    const std::size_t number = (std::size_t)seen.layer * n_head_kv + list;
    const std::size_t first = scores.size() - seen.n_new;
    for (std::size_t i = 0; i < seen.n_new; ++i) {
      scores[first + i] = drawn(seed_, number, (std::uint64_t)seen.n_past + i);
    }
    return 0;
  }

 private:
  std::uint64_t seed_;
};

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = random_policy();
  return std::make_unique<Random>(ranked_options(type, given, shape, cache_size), shape,
                                  (std::uint64_t)number_setting(type, given, "seed"));
}

}  // namespace

const PolicyType& random_policy() {
  static const PolicyType type = {
      .name = "random",
      .summary = "sinks, the last entries, and a random choice: the floor that every other has to beat",
      .paper = "",
      .parameters = {sinks_parameter(),
                     window_parameter(32, 0),
                     {.name = "seed",
                      .kind = PolicyParameter::Kind::kWholeNumber,
                      .min = 0,
                      .max = 1e15,
                      .help = "other numbers, other choices"},
                     evict_fraction_parameter(),
                     positions_parameter()},
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<random_policy>,
      .make = make,
  };
  return type;
}

}  // namespace lacake
