#include "policies/streaming_llm/streaming_llm.h"

#include <algorithm>
#include <numeric>

#include "policies/parameters.h"
#include "policies/shared_parameters.h"

namespace lacake {
namespace {

class StreamingLlm final : public Policy {
 public:
  // REQUIRES: sinks < cache_size.
  StreamingLlm(std::size_t cache_size, const AttentionShape& shape, std::size_t sinks)
      : n_layer_(shape.n_layer), cache_size_(cache_size) {
    traits_.positions = Positions::kCompacted;
    traits_.layers_independent = true;
    traits_.sinks = sinks;
    traits_.window = cache_size - sinks;
  }

  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int, std::size_t, std::size_t) const override { return {}; }

  void update(const Observation& seen, CacheEdits& edits) override {
    cut(seen.layer, seen.n_entries, edits);
    if (seen.layer + 1 == n_layer_) n_held_ = std::min(seen.n_entries, cache_size_);
  }

  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override {
    return std::min(n_held + n_new, cache_size_);
  }
  std::size_t reserve(int, int) const override { return cache_size_ + 1; }

  void resize(std::size_t cache_size, CacheEdits& edits) override {
    require_cache_size(streaming_llm_policy().name, traits_.sinks + 1, cache_size);
    cache_size_ = cache_size;
    traits_.window = cache_size - traits_.sinks;
    for (int layer = 0; layer < n_layer_; ++layer) cut(layer, n_held_, edits);
    n_held_ = std::min(n_held_, cache_size);
  }

  std::unique_ptr<Policy> clone() const override { return std::make_unique<StreamingLlm>(*this); }
  void visit(PolicyFields& state) override {
    for (int layer = 0; layer < n_layer_; ++layer) {
      const std::size_t n = state.n_entries(layer, 0);
      state.number("n_held", n_held_, n, std::min(n, cache_size_));
    }
  }

 private:
  void cut(int layer, std::size_t n_entries, CacheEdits& edits) const {
    if (n_entries <= cache_size_) return;
    if (n_entries == cache_size_ + 1) {
      const auto oldest = (std::uint32_t)traits_.sinks;
      edits.drop(layer, {&oldest, 1});
      return;
    }
    std::vector<std::uint32_t> kept(cache_size_);
    const auto recent = kept.begin() + (std::ptrdiff_t)traits_.sinks;
    std::iota(kept.begin(), recent, 0u);
    std::iota(recent, kept.end(), (std::uint32_t)(n_entries - traits_.window));
    edits.keep(layer, {{std::move(kept)}});
  }

  PolicyTraits traits_;
  int n_layer_;
  std::size_t cache_size_;
  std::size_t n_held_ = 0;  // entries of every layer between segments
};

std::size_t max_entries_per_layer(const PolicySettings&, const AttentionShape&, std::size_t cache_size) {
  return cache_size + 1;
}

std::size_t min_cache_size(const PolicySettings& settings, const AttentionShape&) {
  return size_setting(streaming_llm_policy(), settings, "sinks") + 1;
}

std::unique_ptr<Policy> make(const PolicySettings& settings, const AttentionShape& shape, std::size_t cache_size) {
  require_cache_size(streaming_llm_policy(), settings, shape, cache_size);
  return std::make_unique<StreamingLlm>(cache_size, shape, size_setting(streaming_llm_policy(), settings, "sinks"));
}

}  // namespace

const PolicyType& streaming_llm_policy() {
  static const PolicyType type = {
      .name = "streaming-llm",
      .summary = "the first tokens (attention sinks) and the most recent ones",
      .paper = "Efficient Streaming Language Models with Attention Sinks (ICLR 2024), arXiv 2309.17453",
      .parameters = {sinks_parameter()},
      .max_entries_per_layer = max_entries_per_layer,
      .min_cache_size = min_cache_size,
      .make = make,
  };
  return type;
}

}  // namespace lacake
