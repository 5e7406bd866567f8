#include "eval/python_random.h"

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <vector>

namespace lacake::eval {

PythonRandom::PythonRandom(std::uint64_t seed) {
  constexpr std::size_t n = 624;
  std::vector<std::uint32_t> key = {(std::uint32_t)seed};
  if (seed >> 32) key.push_back((std::uint32_t)(seed >> 32));
  state_[0] = 19650218;
  const auto mixed = [&](std::size_t i, std::uint32_t factor) {
    const std::uint32_t before = state_[i - 1];
    return state_[i] ^ ((before ^ (before >> 30)) * factor);
  };
  for (std::size_t i = 1; i < n; ++i) {
    state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + (std::uint32_t)i;
  }
  std::size_t i = 1;
  const auto advance = [&] {
    if (++i < n) return;
    state_[0] = state_[n - 1];
    i = 1;
  };
  for (std::size_t k = 0; k < std::max(n, key.size()); ++k) {
    state_[i] = mixed(i, 1664525U) + key[k % key.size()] + (std::uint32_t)(k % key.size());
    advance();
  }
  for (std::size_t k = 0; k < n - 1; ++k) {
    state_[i] = mixed(i, 1566083941U) - (std::uint32_t)i;
    advance();
  }
  state_[0] = 0x80000000U;
}

std::uint32_t PythonRandom::bits32() {
  constexpr std::size_t n = 624, m = 397;
  if (next_ == n) {
    for (std::size_t k = 0; k < n; ++k) {
      const std::uint32_t y = (state_[k] & 0x80000000U) | (state_[(k + 1) % n] & 0x7fffffffU);
      state_[k] = state_[(k + m) % n] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfU : 0);
    }
    next_ = 0;
  }
  std::uint32_t y = state_[next_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680U;
  y ^= (y << 15) & 0xefc60000U;
  return y ^ (y >> 18);
}

std::vector<std::size_t> PythonRandom::sample(std::size_t of, std::size_t n) {
  // The beginning of a shuffle, of which only what was moved is kept.
  std::unordered_map<std::size_t, std::size_t> moved;
  const auto at = [&](std::size_t i) {
    const auto found = moved.find(i);
    return found == moved.end() ? i : found->second;
  };
  std::vector<std::size_t> drawn;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t j = i + below(of - i);
    drawn.push_back(at(j));
    moved[j] = at(i);
  }
  return drawn;
}

std::int64_t PythonRandom::randint(std::int64_t low, std::int64_t high) {
  const auto count = (std::uint64_t)(high - low + 1);
  // As many bits as `count` has, drawn again until they are below it.
  const int bits = std::bit_width(count);
  for (;;) {
    const std::uint32_t drawn = bits32() >> (32 - bits);
    if (drawn < count) return low + (std::int64_t)drawn;
  }
}

}  // namespace lacake::eval
