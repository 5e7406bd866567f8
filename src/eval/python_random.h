#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace lacake::eval {

// Python's random.Random(seed) for whole seeds: MT19937 by Matsumoto and Nishimura, seeded by array. Published
// evaluations draw their samples with it, so the same seed gives the same sample here.
class PythonRandom {
 public:
  explicit PythonRandom(std::uint64_t seed);

  std::uint32_t bits32();
  // random.randint(low, high): both ends included. REQUIRES: low <= high, fewer than 2^32 values.
  std::int64_t randint(std::int64_t low, std::int64_t high);
  // One of the numbers below n, all alike. REQUIRES: 0 < n < 2^32.
  std::size_t below(std::size_t n) { return (std::size_t)randint(0, (std::int64_t)n - 1); }

  // random.shuffle(items).
  template <typename Item>
  void shuffle(std::vector<Item>& items) {
    for (std::size_t i = items.size(); i-- > 1;) std::swap(items[i], items[below(i + 1)]);
  }
  // n different numbers below `of`, in random order. REQUIRES: n <= of. (Not random.sample's draws.)
  std::vector<std::size_t> sample(std::size_t of, std::size_t n);

 private:
  std::array<std::uint32_t, 624> state_;
  std::size_t next_ = 624;
};

}  // namespace lacake::eval
