#include "cache/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cache/test_memory.h"
#include "lacake/error.h"
#include "text/llama_log.h"

namespace lacake {
namespace {

// K and V rows differ in size, so that mixing them up shows.
constexpr CacheShape kShape{
    .n_layer = 3, .n_head_kv = 2, .d_k = 8, .d_v = 6, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F16};

Arena arena_of(std::size_t entries, const CacheShape& shape = kShape) {
  return {shape, entries * shape.entry_bytes(), test_memory().pool, test_memory().mover};
}

// Rows filled with a byte that says which they are.
void write(const Arena& arena, std::size_t lane, std::size_t slot, std::uint8_t value) {
  std::memset(arena.k(lane, slot), value, arena.shape().k_row());
  std::memset(arena.v(lane, slot), value ^ 0xFF, arena.shape().v_row());
}

bool holds(const Arena& arena, std::size_t lane, std::size_t slot, std::uint8_t value) {
  const auto all = [](const std::byte* row, std::size_t n, std::uint8_t byte) {
    return std::all_of(row, row + n, [byte](std::byte b) { return b == (std::byte)byte; });
  };
  return all(arena.k(lane, slot), arena.shape().k_row(), value) &&
         all(arena.v(lane, slot), arena.shape().v_row(), value ^ 0xFF);
}

TEST(Arena, HoldsAsManyWholeEntriesAsFit) {
  const Arena arena(kShape, 10 * kShape.entry_bytes() + kShape.entry_bytes() - 1, test_memory().pool,
                    test_memory().mover);
  EXPECT_EQ(arena.n_slots(), 20u);  // 10 entries of 2 heads
  EXPECT_EQ(arena.bytes(), 10 * kShape.entry_bytes());
}

TEST(Arena, LanesMoveWithoutLosingRows) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return n == 0 ? 0 : (std::size_t)(random() % n); };
    Arena arena = arena_of(40);
    const std::size_t n_lanes = kShape.n_lanes();
    std::vector<std::vector<std::uint8_t>> plain(n_lanes);
    std::uint8_t next = 1;
    for (int round = 0; round < 60; ++round) {
      // What is left beyond the living rows goes to a few lanes at random, or stays free.
      std::vector<std::size_t> capacities(n_lanes);
      std::size_t left = arena.n_slots();
      for (std::size_t lane = 0; lane < n_lanes; ++lane) left -= capacities[lane] = arena.live(lane);
      for (int gift = 0; gift < 4; ++gift) {
        const std::size_t n = below(left + 1);
        capacities[below(n_lanes)] += n;
        left -= n;
      }
      arena.divide(capacities);
      for (std::size_t lane = 0; lane < n_lanes; ++lane) {
        ASSERT_EQ(arena.capacity(lane), capacities[lane]);
        ASSERT_EQ(arena.live(lane), plain[lane].size());
        for (std::size_t slot = 0; slot < plain[lane].size(); ++slot) {
          ASSERT_TRUE(holds(arena, lane, slot, plain[lane][slot])) << "lane " << lane << " slot " << slot;
        }
      }
      for (std::size_t lane = 0; lane < n_lanes; ++lane) {
        const std::size_t n = below(arena.capacity(lane) + 1);
        arena.set_live(lane, n);
        while (plain[lane].size() < n) {
          write(arena, lane, plain[lane].size(), next);
          plain[lane].push_back(next++);
        }
        plain[lane].resize(n);
      }
    }
  }
}

TEST(Arena, LanesLieOneAfterTheOther) {
  Arena arena = arena_of(9);
  const std::vector<std::size_t> capacities{3, 0, 5, 1, 4, 5};
  arena.divide(capacities);
  for (std::size_t lane = 0; lane + 1 < capacities.size(); ++lane) {
    EXPECT_EQ(arena.k(lane + 1, 0) - arena.k(lane, 0), (std::ptrdiff_t)(capacities[lane] * kShape.k_row()));
    EXPECT_EQ(arena.v(lane + 1, 0) - arena.v(lane, 0), (std::ptrdiff_t)(capacities[lane] * kShape.v_row()));
  }
}

TEST(Arena, PeakCountsEveryMoment) {
  Arena arena = arena_of(6);
  arena.divide(std::vector<std::size_t>(6, 2));
  arena.set_live(0, 2);
  arena.set_live(1, 2);
  arena.set_live(0, 0);
  arena.set_live(5, 1);
  EXPECT_EQ(arena.total_live(), 3u);
  EXPECT_EQ(arena.peak_live(), 4u);
  arena.set_live(2, 2);
  EXPECT_EQ(arena.peak_live(), 5u);
}

TEST(Arena, RefusesMemoryThatCannotBeHad) {
  silence_llama_log();
  try {
    arena_of((std::size_t)1 << 50);
    FAIL() << "2^50 entries were given";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kCapacity);
    EXPECT_NE(std::string(e.what()).find("TiB"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace lacake
