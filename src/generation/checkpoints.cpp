#include "generation/checkpoints.h"

#include <cassert>

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

}  // namespace lacake
