#pragma once

// The arithmetic of LaCache: which entries of each layer stay when the cache is longer than it may be. Integers only.
//
// A *ladder* is a run of `before` consecutive entries. Layer i keeps `after` of them, from step i mod (removed + 1) on,
// so that neighbouring layers keep different entries and together span the whole run (4 layers, span 2, overlap 1):
//
//     entry      0 1 2                 before  = 1 + ceil((L - s) / (s - o))
//     layer 0    x x .                 after   = min(ceil(s / (s - o)), before)
//     layer 1    . x x                 removed = before - after
//     layer 2    x x .
//     layer 3    . x x

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace lacake::lacache {

// What the user chose. REQUIRES everywhere below: check() passed.
struct Settings {
  std::size_t n_layer = 0;
  std::size_t span = 0;     // s
  std::size_t overlap = 0;  // o < s
  std::size_t sinks = 0;    // S
};

struct Ladder {
  std::size_t before = 0;   // B
  std::size_t after = 0;    // A
  std::size_t removed = 0;  // R = B - A, at least 1
};

// Throws Error(kUsage) that says what to change where no ladder gives anything up.
void check(const Settings&);

Ladder ladder_of(const Settings&);

// The cache size that the official code works with from its first overflow on: C + floor(R / 2).
std::size_t compensated(const Ladder&, std::size_t cache_size);

// The least C for which every overflow finds room: (C + floor(R / 2) - S - L) / A >= 1.
std::size_t least_cache_size(const Settings&);

// Entries that one round of ladders from the sinks gives up at most.
std::size_t one_round(const Settings&, std::size_t cache_size);

// One walk along the list: `first` entries stay as they are, then `count` ladders of `before` entries each give up
// `before - after` of them, then the rest stays.
//   layer i keeps [0, first), then first + i mod (removed + 1) + before * j + gap * k  for j < count, k < after, then
//   [first + before * count, length)
struct Walk {
  std::size_t first = 0;
  std::size_t before = 0;
  std::size_t after = 0;
  std::size_t removed = 0;
  std::size_t gap = 1;  // above 1 only where a start-over stretches the ladder (T)
  std::size_t count = 0;
  std::size_t length = 0;

  std::size_t length_after() const;
  std::uint32_t last_index(std::size_t layer) const;  // of the ladder part; REQUIRES: count, after > 0
};

// One compaction, for all layers: one walk behind the cursor, or two if the ladder starts over from the sinks (the
// second one walks over what the first one left).
struct Plan {
  std::vector<Walk> walks;
  std::size_t cursor = 0;  // afterwards

  std::size_t length_after() const { return walks.back().length_after(); }
};

// REQUIRES: n_entries > cache_size >= compensated(least_cache_size). Throws Error(kInput) naming n_entries and
// cache_size where the stretched ladder of a start-over reaches past the list: the official code fails there too.
Plan plan_compaction(const Settings&, std::size_t cache_size, std::size_t cursor, std::size_t n_entries);

// The list that a layer keeps: indices into its present entries, in the new stored order. Can name an entry twice or go
// backwards, but only where a ladder was stretched and keeps more than one entry (overlap > 0), as in the official
// code.
std::vector<std::uint32_t> kept(const Plan&, std::size_t layer);

// The entry that a layer loses where the plan is one ladder that gives up one entry: the ordinary step with R = 1.
std::optional<std::uint32_t> dropped(const Plan&, std::size_t layer);

}  // namespace lacake::lacache
