#pragma once

// What a node's threads share out among themselves: items of work, and memory to work in.

#include <atomic>
#include <cstddef>

#include "ggml.h"

namespace lacake {

// Items of a node's work, which threads take one by one, so that a thread which the system has taken a core from does
// not hold up the others. Ready for the next run as soon as every thread has seen the end.
class Items {
 public:
  // Calls use(i) for the items that this thread gets, then wait() for as long as it is true and others have not ended.
  template <class Use, class Wait>
  void take(std::size_t n_items, int n_threads, const Use& use, const Wait& wait) {
    const unsigned run = runs_.load(std::memory_order_relaxed);
    for (std::size_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n_items;) use(i);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_threads) {
      done_.store(0, std::memory_order_relaxed);
      next_.store(0, std::memory_order_relaxed);
      runs_.store(run + 1, std::memory_order_release);
      return;
    }
    while (runs_.load(std::memory_order_relaxed) == run && wait()) {
    }
  }
  template <class Use>
  void take(std::size_t n_items, int n_threads, const Use& use) {
    take(n_items, n_threads, use, [] { return false; });
  }

 private:
  std::atomic<std::size_t> next_{0};
  std::atomic<int> done_{0};
  std::atomic<unsigned> runs_{0};
};

// A thread's own part of a tensor [bytes, threads].
inline std::byte* scratch_of(const ggml_tensor* scratch, int thread) {
  return (std::byte*)scratch->data + (std::size_t)thread * scratch->nb[1];
}

}  // namespace lacake
