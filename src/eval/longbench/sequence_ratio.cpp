#include "eval/longbench/sequence_ratio.h"

#include <cmath>
#include <cstddef>
#include <unordered_map>
#include <vector>

namespace lacake::eval {
namespace {

struct Block {
  std::size_t a, b, size;
};

class Matcher {
 public:
  Matcher(std::u32string_view a, std::u32string_view b) : a_(a), b_(b) {
    for (std::size_t j = 0; j < b.size(); ++j) places_[b[j]].push_back(j);
    if (b.size() >= 200) {
      std::erase_if(places_, [&](const auto& entry) { return entry.second.size() > b.size() / 100 + 1; });
    }
  }

  std::size_t matching(std::size_t a_begin, std::size_t a_end, std::size_t b_begin, std::size_t b_end) const {
    const Block block = longest(a_begin, a_end, b_begin, b_end);
    if (block.size == 0) return 0;
    return block.size + matching(a_begin, block.a, b_begin, block.b) +
           matching(block.a + block.size, a_end, block.b + block.size, b_end);
  }

 private:
  // The first in a, then in b, of the longest.
  Block longest(std::size_t a_begin, std::size_t a_end, std::size_t b_begin, std::size_t b_end) const {
    Block best{a_begin, b_begin, 0};
    std::vector<std::size_t> before(b_.size() + 1, 0), now(b_.size() + 1, 0);  // length of the block that ends at j - 1
    for (std::size_t i = a_begin; i < a_end; ++i) {
      std::fill(now.begin(), now.end(), 0);
      const auto found = places_.find(a_[i]);
      if (found != places_.end()) {
        for (const std::size_t j : found->second) {
          if (j < b_begin || j >= b_end) continue;
          now[j + 1] = before[j] + 1;
          if (now[j + 1] > best.size) best = {i + 1 - now[j + 1], j + 1 - now[j + 1], now[j + 1]};
        }
      }
      before.swap(now);
    }
    while (best.a > a_begin && best.b > b_begin && a_[best.a - 1] == b_[best.b - 1]) --best.a, --best.b, ++best.size;
    while (best.a + best.size < a_end && best.b + best.size < b_end && a_[best.a + best.size] == b_[best.b + best.size])
      ++best.size;
    return best;
  }

  std::u32string_view a_, b_;
  std::unordered_map<char32_t, std::vector<std::size_t>> places_;
};

}  // namespace

double sequence_ratio(std::u32string_view a, std::u32string_view b) {
  return 2.0 * (double)Matcher(a, b).matching(0, a.size(), 0, b.size()) / (double)(a.size() + b.size());
}

int fuzz_ratio(std::u32string_view a, std::u32string_view b) {
  if (a == b) return 100;
  if (a.empty() || b.empty()) return 0;
  return (int)std::nearbyint(100 * sequence_ratio(a, b));  // halves to even, as Python rounds
}

}  // namespace lacake::eval
