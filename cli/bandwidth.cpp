#include "bandwidth.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace lacake::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kWords = std::size_t{64} << 20;  // 512 MiB
constexpr int kPasses = 7;

// Several places at once: one stream alone does not keep every core's memory requests busy.
template <std::size_t kStreams>
std::uint64_t read_all(const std::uint64_t* words, std::size_t n) {
  constexpr std::size_t kLine = 8;  // words of a cache line
  const std::size_t part = n / kStreams / kLine * kLine;
  std::array<std::uint64_t, kLine> sums{};
  for (std::size_t i = 0; i < part; i += kLine) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      for (std::size_t w = 0; w < kLine; ++w) sums[w] += words[s * part + i + w];
    }
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t s : sums) sum += s;
  return sum;
}

}  // namespace

double read_bandwidth(int threads) {
  const auto n_threads = (std::size_t)threads;
  const auto words = std::make_unique<std::uint64_t[]>(kWords);  // zeros are written, so the pages are there
  const std::size_t share = kWords / n_threads;
  std::vector<double> seconds;
  Clock::time_point begin;
  std::atomic<std::uint64_t> sink = 0;
  // Threads meet before and after each pass; the last one to come looks at the clock.
  bool running = false;
  std::barrier meet(threads, [&]() noexcept {
    const Clock::time_point now = Clock::now();
    if (running) seconds.push_back(std::chrono::duration<double>(now - begin).count());
    running = !running;
    begin = Clock::now();
  });
  const auto read = [&](std::size_t t) {
    const std::uint64_t* from = words.get() + t * share;
    for (int pass = 0; pass < kPasses; ++pass) {
      meet.arrive_and_wait();
      sink += pass % 2 == 0 ? read_all<1>(from, share) : read_all<4>(from, share);
      meet.arrive_and_wait();
    }
  };
  std::vector<std::thread> others;
  for (std::size_t t = 1; t < n_threads; ++t) others.emplace_back(read, t);
  read(0);
  for (std::thread& thread : others) thread.join();
  const double bytes = (double)(share * n_threads * sizeof(std::uint64_t));
  return bytes / *std::min_element(seconds.begin(), seconds.end()) / 1e9;
}

}  // namespace lacake::cli
