#include "place/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace lacake {
namespace {

TEST(Workers, CallsEachItemOnceWhateverTheThreads) {
  for (const int threads : {1, 2, 3}) {
    HostPlace place(threads);
    Workers workers(place);
    for (const std::size_t n : {0, 1, 2, 100}) {
      std::vector<std::atomic<int>> calls(n);
      workers.each(n, [&](std::size_t i, int thread) {
        if (thread >= 0 && thread < threads) ++calls[i];
      });
      for (const auto& c : calls) EXPECT_EQ(c, 1) << threads << " threads, " << n << " items";
    }
  }
}

TEST(Workers, LetsTheOthersEndAndThrowsWhatTheFirstItemThrew) {
  for (const int threads : {1, 2}) {
    HostPlace place(threads);
    Workers workers(place);
    std::atomic<int> calls = 0;
    try {
      workers.each(9, [&](std::size_t i, int) {
        ++calls;
        if (i % 4 == 3) throw std::runtime_error(std::to_string(i));
      });
      ADD_FAILURE() << "nothing came out";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "3");
    }
    EXPECT_EQ(calls, 9);
  }
}

}  // namespace
}  // namespace lacake
