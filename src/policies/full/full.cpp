#include "policies/full/full.h"

#include <string>

#include "lacake/error.h"
#include "policies/parameters.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

class Full final : public Policy {
 public:
  Full(std::size_t cache_size, const AttentionShape& shape, Positions positions)
      : last_layer_(shape.n_layer - 1), cache_size_(cache_size) {
    traits_.positions = positions;
  }

  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int, std::size_t, std::size_t) const override { return {}; }
  void update(const Observation& seen, CacheEdits&) override {
    if (seen.layer == last_layer_) n_held_ = seen.n_entries;
  }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override { return n_held + n_new; }
  std::size_t reserve(int, int) const override { return cache_size_ + 1; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Full>(*this); }
  void visit(PolicyFields& state) override {
    const std::size_t n = state.n_entries(last_layer_, 0);
    state.number("n_held", n_held_, n, n);
  }

  void resize(std::size_t cache_size, CacheEdits&) override {
    if (cache_size < n_held_) {
      throw Error({.kind = Error::Kind::kCapacity,
                   .subject = policy_subject(full_policy().name),
                   .expected = "room for the " + std::to_string(n_held_) + " entries a layer that it holds",
                   .found = "a cache size of " + std::to_string(cache_size),
                   .remedy = "another policy would evict some"});
    }
    require_cache_size(full_policy().name, kLeast, cache_size);
    cache_size_ = cache_size;
  }

  static constexpr std::size_t kLeast = 1;

 private:
  PolicyTraits traits_;
  int last_layer_;
  std::size_t cache_size_;
  std::size_t n_held_ = 0;
};

std::size_t max_entries_per_layer(const PolicySettings&, const AttentionShape&, std::size_t cache_size) {
  return cache_size + 1;
}

std::size_t min_cache_size(const PolicySettings&, const AttentionShape&) { return Full::kLeast; }

std::unique_ptr<Policy> make(const PolicySettings& settings, const AttentionShape& shape, std::size_t cache_size) {
  require_cache_size(full_policy(), settings, shape, cache_size);
  return std::make_unique<Full>(cache_size, shape, positions_setting(full_policy(), settings));
}

}  // namespace

const PolicyType& full_policy() {
  static const PolicyType type = {
      .name = "full",
      .summary = "keeps every entry: the reference that the others are measured against",
      .paper = "",
      .parameters = {positions_parameter()},
      .bounded = false,
      .max_entries_per_layer = max_entries_per_layer,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
