#include "policies/full/full.h"

#include "policies/settings.h"

namespace lacake {
namespace {

class Full final : public Policy {
 public:
  Full(std::size_t cache_size, Positions positions) : cache_size_(cache_size) { traits_.positions = positions; }

  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int, std::size_t, std::size_t) const override { return {}; }
  void update(const Observation&, CacheEdits&) override {}
  std::size_t reserve(int, int) const override { return cache_size_ + 1; }

 private:
  PolicyTraits traits_;
  std::size_t cache_size_;
};

std::size_t max_entries_per_layer(const PolicySettings&, const AttentionShape&, std::size_t cache_size) {
  return cache_size + 1;
}

std::size_t min_cache_size(const PolicySettings&, const AttentionShape&) { return 1; }

std::unique_ptr<Policy> make(const PolicySettings& settings, const AttentionShape&, std::size_t cache_size) {
  const auto positions = setting(full_policy(), settings, "positions") == 0 ? Positions::kTrue : Positions::kCacheIndex;
  return std::make_unique<Full>(cache_size, positions);
}

}  // namespace

const PolicyType& full_policy() {
  static const PolicyType type = {
      .name = "full",
      .summary = "keeps every entry: the reference that the others are measured against",
      .paper = "",
      .parameters = {{.name = "positions",
                      .min = 0,
                      .max = 1,
                      .integer = true,
                      .choices = {"original", "compacted"},
                      .help = "where keys stand for RoPE: at their token, or at their index in the cache"}},
      .bounded = false,
      .max_entries_per_layer = max_entries_per_layer,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
