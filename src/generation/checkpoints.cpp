#include "generation/checkpoints.h"

#include <cassert>
#include <cstddef>
#include <numeric>

namespace lacake {

std::size_t least_useful(std::span<const CheckpointSize> checkpoints, std::size_t n_tokens) {
  assert(!checkpoints.empty());
  constexpr std::size_t kLast = 2;
  if (checkpoints.size() <= kLast) return 0;
  std::size_t worst = 0;
  double least = 0;
  for (std::size_t i = 0; i + kLast < checkpoints.size(); ++i) {
    const std::size_t before = i == 0 ? 0 : checkpoints[i - 1].n_tokens;
    const double gap = (double)(checkpoints[i + 1].n_tokens - before);
    const double value = gap / (double)(n_tokens - checkpoints[i].n_tokens + 1);
    if (i > 0 && value >= least) continue;
    worst = i;
    least = value;
  }
  return worst;
}

std::vector<std::size_t> most_useful(std::span<const CheckpointSize> checkpoints, std::size_t n_tokens,
                                     std::uint64_t most) {
  if (most == 0) return {};
  std::vector<CheckpointSize> sizes(checkpoints.begin(), checkpoints.end());
  std::vector<std::size_t> places(sizes.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  std::uint64_t bytes = 0;
  for (const CheckpointSize& c : sizes) bytes += c.bytes;
  while (bytes > most) {
    const auto goes = (std::ptrdiff_t)least_useful(sizes, n_tokens);
    bytes -= sizes[(std::size_t)goes].bytes;
    sizes.erase(sizes.begin() + goes);
    places.erase(places.begin() + goes);
  }
  return places;
}

}  // namespace lacake
