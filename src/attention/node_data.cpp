#include "attention/node_data.h"

#include <algorithm>

namespace lacake::attention {

void Scratch::reserve(int n_threads, std::size_t bytes_each) {
  bytes_each = (bytes_each + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
  const std::size_t bytes = bytes_each * (std::size_t)n_threads + kScratchAlignment;
  if (bytes_each > each_ || bytes > memory_.size()) {
    each_ = std::max(each_, bytes_each);
    memory_.resize(each_ * (std::size_t)n_threads + kScratchAlignment);
  }
}

std::span<std::byte> Scratch::of(int thread) {
  const auto base = ((std::uintptr_t)memory_.data() + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
  return {(std::byte*)base + (std::size_t)thread * each_, each_};
}

}  // namespace lacake::attention
