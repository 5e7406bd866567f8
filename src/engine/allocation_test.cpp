// What a generated token allocates, counted by operators new of this test program's own.

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>

#include "engine/test_session.h"

namespace {
std::atomic<std::size_t> n_allocations = 0;

void* counted(std::size_t size) {
  ++n_allocations;
  if (void* const p = std::malloc(size > 0 ? size : 1)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
// std::stable_sort asks in this way, and frees in the common one.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++n_allocations;
  return std::malloc(size > 0 ? size : 1);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace lacake {
namespace {

TEST(Step, OfAFullCacheOrOneThatDropsAnEntryAllocatesNothing) {
  Loaded loaded(wide());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 4);
  for (const char* policy : {"full", "streaming-llm"}) {
    SCOPED_TRACE(policy);
    const auto s = loaded.engine.open(with(policy, std::string(policy) == "full" ? "" : "40"));
    s->prefill({tokens.data(), 50});
    // Lists of entries grow by doubling: at 64 entries, so not here.
    for (std::size_t i = 50; i < 54; ++i) s->step(tokens[i]);
    const std::size_t before = n_allocations;
    for (std::size_t i = 54; i < 62; ++i) s->step(tokens[i]);
    EXPECT_EQ(n_allocations - before, 0u);
  }
}

}  // namespace
}  // namespace lacake
