#pragma once

#include <cstddef>

#include "lacake/policy.h"

namespace lacake {

const PolicyType& pyramidkv_policy();

namespace pyramidkv {

// Entries beside the window of one layer when n_tokens > cache_size were fed. They fall linearly from the first layer
// to the last, and sum to at most (cache_size - window) * n_layer. REQUIRES: window < cache_size, beta >= 1.
std::size_t entries_beside_window(std::size_t layer, std::size_t n_layer, std::size_t cache_size, std::size_t window,
                                  double beta, std::size_t n_tokens);

}  // namespace pyramidkv
}  // namespace lacake
