#include "graph/compute.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>

namespace lacake {
namespace {

TEST(Compute, DividesPartsSoThatEachIsDoneOnce) {
  for (const int threads : {1, 2}) {
    Compute compute(threads);
    for (const std::size_t n : {0, 1, 30}) {
      std::array<std::atomic<int>, 31> times{};
      compute.divide(n, [&](std::size_t part, int thread) {
        if (thread >= 0 && thread < threads) ++times[part];
      });
      for (std::size_t i = 0; i < times.size(); ++i) EXPECT_EQ(times[i], i < n ? 1 : 0) << i << " of " << n;
    }
  }
}

}  // namespace
}  // namespace lacake
