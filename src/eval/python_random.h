#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace lacake::eval {

// Python's random.Random(seed) for whole seeds: MT19937 by Matsumoto and Nishimura, seeded by array. Published
// evaluations draw their samples with it, so the same seed gives the same sample here.
class PythonRandom {
 public:
  explicit PythonRandom(std::uint64_t seed);

  std::uint32_t bits32();
  // random.randint(low, high): both ends included. REQUIRES: low <= high, fewer than 2^32 values.
  std::int64_t randint(std::int64_t low, std::int64_t high);

 private:
  std::array<std::uint32_t, 624> state_;
  std::size_t next_ = 624;
};

}  // namespace lacake::eval
