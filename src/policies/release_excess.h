#pragma once

#include <vector>

namespace lacake {

// Gives back what a long prompt took of a vector that has shrunk since; room for a token of an answer stays. Layer by
// layer a policy then holds what it keeps, not what it was shown.
template <class T>
void release_excess(std::vector<T>& values) {
  if (values.capacity() <= values.size() + values.size() / 4 + 16) return;
  std::vector<T> kept;
  kept.reserve(values.size() + 1);
  kept.assign(values.begin(), values.end());
  values.swap(kept);
}

}  // namespace lacake
