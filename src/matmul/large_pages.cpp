#include "matmul/large_pages.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cassert>
#include <cstdint>

#include "lacake/error.h"

namespace lacake::matmul {
namespace {

constexpr std::size_t kPage = std::size_t{2} << 20;

}  // namespace

LargePages::LargePages(std::size_t bytes) : mapping_bytes_(bytes + kPage) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
  flags |= MAP_NORESERVE;
#endif
  mapping_ = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapping_ == MAP_FAILED) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "weights",
                 .expected = fmt::format("{} bytes of memory for repacked weights", bytes),
                 .found = "that the system refused them"});
  }
  next_ = (std::byte*)(((std::uintptr_t)mapping_ + kPage - 1) / kPage * kPage);
  end_ = next_ + bytes;
#ifdef MADV_HUGEPAGE
  // Only whole pages within `bytes`: the last one may be small pages, but never memory that nobody asked for.
  madvise(next_, bytes / kPage * kPage, MADV_HUGEPAGE);
#endif
}

LargePages::~LargePages() { munmap(mapping_, mapping_bytes_); }

std::byte* LargePages::take(std::size_t bytes) {
  std::byte* block = next_;
  next_ += (bytes + 63) / 64 * 64;
  assert(next_ <= end_);
  return block;
}

}  // namespace lacake::matmul
