#include "cache/kv_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "cache/cache.h"
#include "cache/test_memory.h"
#include "lacake/error.h"

namespace lacake {
namespace {

void fill(KvLease& lease, std::uint8_t value) { std::memset(lease.base(), value, (std::size_t)lease.bytes()); }
bool holds(const KvLease& lease, std::uint64_t n, std::uint8_t value) {
  return std::all_of(lease.base(), lease.base() + n, [&](std::byte b) { return b == (std::byte)value; });
}

TEST(KvPool, CountsWhatIsLeasedAndFree) {
  TestMemory memory(1024);
  EXPECT_EQ(memory.pool.reserved(), 1024u);
  EXPECT_EQ(memory.pool.free(), 1024u);
  {
    const auto a = memory.pool.lease(100), b = memory.pool.lease(64);
    EXPECT_EQ(a->bytes(), 100u);
    EXPECT_EQ(memory.pool.leased(), 128u + 64u);
    EXPECT_EQ(memory.pool.free(), 1024u - 192u);
    EXPECT_EQ(memory.pool.n_leases(), 2u);
  }
  EXPECT_EQ(memory.pool.leased(), 0u);
  EXPECT_EQ(memory.pool.n_leases(), 0u);
}

TEST(KvPool, RefusesWhatIsNotFreeAndStaysAsItWas) {
  TestMemory memory(1024);
  const auto a = memory.pool.lease(640);
  fill(*a, 7);
  EXPECT_THROW((void)memory.pool.lease(385), Error);
  EXPECT_THROW(a->resize(1025), Error);
  EXPECT_EQ(a->bytes(), 640u);
  EXPECT_EQ(memory.pool.leased(), 640u);
  EXPECT_TRUE(holds(*a, 640, 7));
  const auto b = memory.pool.lease(384);
  EXPECT_EQ(memory.pool.free(), 0u);
}

TEST(KvPool, ClosesGapsForWhatFitsByItsBytes) {
  TestMemory memory(64 * 8);
  std::vector<std::unique_ptr<KvLease>> leases;
  for (std::uint8_t i = 0; i < 8; ++i) {
    leases.push_back(memory.pool.lease(64));
    fill(*leases.back(), i);
  }
  for (const std::size_t i : {1, 3, 5, 7}) leases[i].reset();
  const auto large = memory.pool.lease(64 * 4);
  EXPECT_EQ(memory.pool.free(), 0u);
  for (const std::size_t i : {0, 2, 4, 6}) EXPECT_TRUE(holds(*leases[i], 64, (std::uint8_t)i)) << i;
}

TEST(KvPool, ALeaseGrowsWhereItIsIfItCan) {
  TestMemory memory(1024);
  const auto a = memory.pool.lease(128);
  const auto before = memory.mover.moved_bytes;
  a->resize(512);
  EXPECT_EQ(memory.mover.moved_bytes, before);
}

// What a lease holds is its own name in every byte; others lie around it.
TEST(KvPool, ManyLeasesInRandomOrderNeverPassThePoolNorLoseAByte) {
  constexpr std::uint64_t kPool = 64 * 1024;
  TestMemory memory(kPool);
  std::mt19937 random(5);
  struct Held {
    std::unique_ptr<KvLease> lease;
    std::uint8_t value;
  };
  std::vector<Held> held;
  std::uint64_t taken = 0;
  const auto size = [&] { return 1 + random() % (kPool / 12); };
  std::size_t refused = 0;
  for (int step = 0; step < 10'000; ++step) {
    const auto action = random() % 3;
    if (action == 0 && held.size() < 64) {
      const std::uint64_t bytes = size();
      const bool fits = taken + KvPool::taken(bytes) <= kPool;
      try {
        held.push_back({memory.pool.lease(bytes), (std::uint8_t)random()});
        fill(*held.back().lease, held.back().value);
        ASSERT_TRUE(fits);
        taken += KvPool::taken(bytes);
      } catch (const Error&) {
        ASSERT_FALSE(fits) << "step " << step;
        ++refused;
      }
    } else if (action == 1 && !held.empty()) {
      const std::size_t i = random() % held.size();
      taken -= KvPool::taken(held[i].lease->bytes());
      held.erase(held.begin() + (std::ptrdiff_t)i);
    } else if (!held.empty()) {
      Held& h = held[random() % held.size()];
      const std::uint64_t before = h.lease->bytes(), bytes = size();
      const std::uint64_t others = taken - KvPool::taken(before);
      const bool fits = others + KvPool::taken(bytes) <= kPool;
      try {
        h.lease->resize(bytes);
        ASSERT_TRUE(fits);
        ASSERT_TRUE(holds(*h.lease, std::min(before, bytes), h.value));
        fill(*h.lease, h.value);
        taken = others + KvPool::taken(bytes);
      } catch (const Error&) {
        ASSERT_FALSE(fits) << "step " << step;
        ++refused;
      }
    }
    ASSERT_EQ(memory.pool.leased(), taken);
    ASSERT_LE(memory.pool.leased(), kPool);
    if (step % 50 == 0) {
      for (const Held& h : held) ASSERT_TRUE(holds(*h.lease, h.lease->bytes(), h.value)) << "step " << step;
    }
  }
  EXPECT_GT(refused, 100u);  // the pool was tight
  held.clear();
  EXPECT_EQ(memory.pool.leased(), 0u);
}

// Caches of several shapes over one pool: opened, filled, resized, closed. 64 at most, 10,000 steps.
TEST(KvPool, CachesShareAPoolForTenThousandSteps) {
  struct Kind {
    CacheShape shape;
    PolicyTraits traits;
  };
  const Kind kinds[] = {
      {{.n_layer = 2, .n_head_kv = 2, .d_k = 4, .d_v = 4, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F16}, {}},
      {{.n_layer = 3, .n_head_kv = 1, .d_k = 32, .d_v = 32, .type_k = GGML_TYPE_Q8_0, .type_v = GGML_TYPE_Q4_0}, {}}};
  constexpr std::uint64_t kPool = 96 * 1024;
  TestMemory memory(kPool);
  std::mt19937 random(11);
  struct Open {
    std::unique_ptr<Cache> cache;
    std::uint8_t name;
    std::size_t n = 0;  // entries in each lane

    CacheShape const& shape() const { return cache->arena().shape(); }
    std::byte value(int layer, std::size_t i) const { return (std::byte)(name + 31 * layer + 7 * (int)i); }
    void add(std::size_t count) {
      for (; count > 0; --count) {
        for (int l = 0; l < shape().n_layer; ++l) {
          const std::size_t row = std::max(shape().k_row(), shape().v_row());
          std::vector<std::byte> rows(row * (std::size_t)shape().n_head_kv, value(l, n));
          cache->append(l, {.k = rows.data(), .v = rows.data(), .capacity = 1, .n = 1, .first_position = (int)n});
        }
        ++n;
      }
    }
    bool intact() const {
      for (int l = 0; l < shape().n_layer; ++l) {
        for (int h = 0; h < shape().n_head_kv; ++h) {
          const attention::Rows rows = cache->rows(l, h);
          const auto slots = cache->slots(l, h);
          const auto positions = cache->positions(l, h);
          if (rows.n != n) return false;
          for (std::size_t i = 0; i < n; ++i) {
            const auto* k = (const std::byte*)rows.k + slots[i] * rows.k_stride;
            const auto* v = (const std::byte*)rows.v + slots[i] * rows.v_stride;
            const std::byte expected = value(l, (std::size_t)positions[i]);
            if (k[0] != expected || k[rows.k_stride - 1] != expected || v[0] != expected) return false;
          }
        }
      }
      return true;
    }
    std::size_t room() const { return cache->arena().n_slots() / (std::size_t)(shape().n_layer * shape().n_head_kv); }
    void divide() { cache->divide(std::vector<std::size_t>(shape().n_lanes(), room())); }
  };
  std::vector<Open> open;
  std::size_t refused = 0, most = 0;
  for (int step = 0; step < 10'000; ++step) {
    const Kind& kind = kinds[random() % 2];
    const std::size_t entries = 1 + random() % 40;
    const auto action = random() % 8;
    if (action < 2 && open.size() < 64) {
      const std::uint64_t bytes = entries * kind.shape.entry_bytes() * (std::size_t)kind.shape.n_layer;
      const bool fits = KvPool::taken(bytes) <= memory.pool.free();
      try {
        open.push_back({std::make_unique<Cache>(kind.shape, kind.traits, bytes, memory.pool, memory.mover),
                        (std::uint8_t)random()});
        ASSERT_TRUE(fits);
        open.back().divide();
      } catch (const Error&) {
        ASSERT_FALSE(fits) << "step " << step;
        ++refused;
      }
    } else if (action == 2 && !open.empty()) {
      open.erase(open.begin() + (std::ptrdiff_t)(random() % open.size()));
    } else if (action < 5 && !open.empty()) {
      Open& o = open[random() % open.size()];
      o.add(std::min<std::size_t>(random() % 5, o.room() - o.n));
    } else if (!open.empty()) {
      Open& o = open[random() % open.size()];
      // Entries that have to go first.
      if (o.n > entries) {
        Selection first;
        first.heads.emplace_back();
        for (std::uint32_t i = 0; i < entries; ++i) first.heads[0].push_back(i);
        for (int l = 0; l < o.shape().n_layer; ++l) o.cache->compact(l, first);
        o.n = entries;
      }
      const std::uint64_t bytes = entries * o.shape().entry_bytes() * (std::size_t)o.shape().n_layer;
      const std::uint64_t before = KvPool::taken(o.cache->arena().bytes());
      const bool fits = KvPool::taken(bytes) <= memory.pool.free() + before;
      try {
        o.cache->resize(bytes);
        ASSERT_TRUE(fits);
        o.divide();
      } catch (const Error&) {
        ASSERT_FALSE(fits) << "step " << step;
        ++refused;
      }
      ASSERT_TRUE(o.intact()) << "step " << step;
    }
    most = std::max(most, open.size());
    std::uint64_t leased = 0, held = 0;
    for (const Open& o : open) {
      leased += KvPool::taken(o.cache->arena().bytes());
      held += o.cache->arena().total_live() * o.shape().slot_bytes();
    }
    ASSERT_EQ(memory.pool.leased(), leased);
    ASSERT_LE(held, leased);
    ASSERT_LE(leased, kPool);
    if (step % 100 == 0) {
      for (const Open& o : open) ASSERT_TRUE(o.intact()) << "step " << step;
    }
  }
  EXPECT_GT(refused, 100u);
  EXPECT_GT(most, 15u);
  open.clear();
  EXPECT_EQ(memory.pool.leased(), 0u);
}

}  // namespace
}  // namespace lacake
