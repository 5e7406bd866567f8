#include "policies/shared_parameters.h"

#include <algorithm>
#include <utility>

#include "policies/parameters.h"

namespace lacake {

using Kind = PolicyParameter::Kind;

PolicyParameter positions_parameter() {
  return {.name = "positions",
          .kind = Kind::kWord,
          .default_value = "original",
          .words = {"original", "compacted"},
          .help = "where keys stand for RoPE: at their token, or at their index in the cache"};
}

Positions positions_setting(const PolicyType& type, const PolicySettings& given) {
  return has_word(type, given, "positions", "compacted") ? Positions::kCompacted : Positions::kOriginal;
}

PolicyParameter sinks_parameter() {
  return {.name = "sinks",
          .kind = Kind::kWholeNumber,
          .default_value = 4,
          .min = 0,
          .max = 65536,
          .help = "first tokens that always stay"};
}

PolicyParameter window_parameter(std::size_t default_value, std::size_t min, std::size_t max) {
  return {.name = "window",
          .kind = Kind::kWholeNumber,
          .default_value = default_value,
          .min = (double)min,
          .max = (double)max,
          .help = "last entries that always stay"};
}

std::vector<PolicyParameter> with_head_parameters(std::vector<PolicyParameter> own, const HeadDefaults& defaults) {
  std::vector<std::string> words = {"even", "adaptive"};
  std::string help = "adaptive: a layer's entries go to its heads by where the best scores fall (AdaKV)";
  if (defaults.joint) {
    words.push_back("joint");
    help += "; joint: all entries to all heads of all layers";
  }
  own.insert(own.end(), {{.name = "heads",
                          .kind = Kind::kWord,
                          .default_value = defaults.heads,
                          .words = std::move(words),
                          .help = std::move(help)},
                         {.name = "floor",
                          .default_value = defaults.floor,
                          .min = 0,
                          .max = 1,
                          .help = "with heads that share, the least share of an even head's entries"}});
  return own;
}

PolicyParameter evict_fraction_parameter(double default_value) {
  return {
      .name = "evict_fraction",
      .default_value = default_value,
      .min = 0,
      .max = 1,
      .help = "share of the cache that a full layer drops at once in decoding, so that looking costs little (ours)"};
}

std::size_t n_evicted_at_once(double share, std::size_t size, std::size_t cache_size) {
  return std::max<std::size_t>((std::size_t)(share * (double)std::min(size, cache_size)), 1);
}

}  // namespace lacake
