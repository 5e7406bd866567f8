#include "policies/pyramidkv/pyramidkv.h"

#include <algorithm>

#include "policies/parameters.h"
#include "policies/snapkv/snapkv.h"

namespace lacake {
namespace pyramidkv {

std::size_t entries_beside_window(std::size_t layer, std::size_t n_layer, std::size_t cache_size, std::size_t window,
                                  double beta, std::size_t n_tokens) {
  const auto average = (double)(cache_size - window);
  // No layer can hold more than there is: a prompt that is little longer than C gets a flat pyramid.
  const double most = std::min(2 * average - average / beta, (double)(n_tokens - window));
  const double least = 2 * average - most;
  if (n_layer == 1) return cache_size - window;
  const double step = (most - least) / (double)(n_layer - 1);
  // Rounded down, so that the sum stays below the whole; whole numbers survive the division.
  return (std::size_t)(most - step * (double)layer + 1e-9);
}

namespace {

class PyramidKv final : public snapkv::SnapKv {
 public:
  PyramidKv(const Options& options, const AttentionShape& shape, double decay, snapkv::Decode decode, double beta)
      : SnapKv(options, shape, decay, decode), beta_(beta) {}

  std::unique_ptr<Policy> clone() const override { return std::make_unique<PyramidKv>(*this); }

 protected:
  std::size_t layer_size(int layer, std::size_t n_tokens) const override {
    const auto n_layer = (std::size_t)shape().n_layer;
    return options().window +
           entries_beside_window((std::size_t)layer, n_layer, options().cache_size, options().window, beta_, n_tokens);
  }

 private:
  double beta_;
};

}  // namespace
}  // namespace pyramidkv

namespace {

std::unique_ptr<Policy> make(const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
  const PolicyType& type = pyramidkv_policy();
  RankedPolicy::Options options = ranked_options(type, given, shape, cache_size);
  options.uneven_layers = true;
  return std::make_unique<pyramidkv::PyramidKv>(options, shape, snapkv::decay(type, given), snapkv::decode(type, given),
                                                number_setting(type, given, "beta"));
}

std::vector<PolicyParameter> parameters() {
  std::vector<PolicyParameter> result = snapkv::parameters(/*joint*/ false);
  result.insert(result.begin() + 1, {.name = "beta",
                                     .default_value = 20,
                                     .min = 1,
                                     .max = 1e6,
                                     .help = "steepness: the last layer gets an average layer's entries / beta"});
  return result;
}

}  // namespace

const PolicyType& pyramidkv_policy() {
  static const PolicyType type = {
      .name = "pyramidkv",
      .summary = "snapkv's scores, with layers that shrink from the first to the last",
      .paper =
          "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling (2024), arXiv 2406.02069",
      .parameters = parameters(),
      .max_entries_per_layer = ranked_max_entries,
      .min_cache_size = ranked_min_cache_size<pyramidkv_policy>,
      .make = make,
  };
  return type;
}

}  // namespace lacake
