#include "faults/power_cut.h"

#include <algorithm>
#include <random>
#include <vector>

namespace lacake::faults {
namespace {

constexpr std::size_t kBlock = 4096;

struct Disk {
  std::string written;         // what the program sees
  std::string synced;          // what is on the disk for good
  bool renamed = false;        // seen by the program; on the disk maybe
  bool folder_synced = false;  // for good
};

Disk after(std::span<const Call> calls, const std::string& path) {
  Disk disk;
  std::string written_as;
  for (const Call& call : calls) {
    if (call.error != 0) continue;
    if (call.name == "write") {
      disk.written.resize(std::max(disk.written.size(), call.at + call.bytes.size()));
      disk.written.replace(call.at, call.bytes.size(), call.bytes);
      written_as = call.path;
    } else if ((call.name == "fsync" || call.name == "fdatasync") && call.path == written_as) {
      disk.synced = disk.written;
    } else if (call.name == "fsync") {
      disk.folder_synced = disk.renamed;
    } else if (call.name == "rename" && call.to == path) {
      disk.renamed = true;
    }
  }
  return disk;
}

// A block that was not written reads as zeros, and on some file systems as what lay there before.
enum class Missing { kZeros, kGarbage };

std::string with_blocks(const Disk& disk, std::size_t size, std::uint64_t blocks, Missing missing) {
  std::string bytes = disk.synced;
  bytes.resize(size);
  std::minstd_rand random(7);
  for (std::size_t begin = 0; begin < size; begin += kBlock) {
    const std::size_t n = std::min(kBlock, size - begin);
    if (begin + n <= disk.synced.size()) continue;
    if (blocks >> (begin / kBlock % 64) & 1) {
      bytes.replace(begin, n, disk.written, begin, n);
    } else if (missing == Missing::kGarbage) {
      for (std::size_t i = 0; i < n; ++i) bytes[begin + i] = (char)random();
    }
  }
  return bytes;
}

}  // namespace

void after_power_cuts(std::span<const Call> calls, const std::string& path,
                      const std::function<void(const Found&)>& check) {
  constexpr std::size_t kAllSubsets = 5, kSome = 24;
  std::mt19937_64 random(5);
  for (std::size_t n = 1; n <= calls.size(); ++n) {
    const Disk disk = after(calls.first(n), path);
    const auto found = [&](const std::string& bytes) {
      // Until the folder is synced a new name may be there or not.
      if (disk.renamed) check({true, bytes, n});
      if (!disk.folder_synced) check({false, bytes, n});
    };
    if (disk.synced == disk.written) {
      found(disk.written);
      continue;
    }
    // Of any length: sizes are written apart from data.
    std::vector<std::size_t> sizes = {disk.written.size()};
    for (int i = 0; i < 4; ++i) sizes.push_back(random() % disk.written.size());
    for (const std::size_t size : sizes) {
      const std::size_t n_blocks = (size + kBlock - 1) / kBlock;
      const std::size_t n_subsets = n_blocks <= kAllSubsets ? std::size_t{1} << n_blocks : kSome;
      for (std::size_t i = 0; i < n_subsets; ++i) {
        const std::uint64_t blocks = n_blocks <= kAllSubsets ? i : random() | random();
        for (const Missing missing : {Missing::kZeros, Missing::kGarbage}) {
          found(with_blocks(disk, size, blocks, missing));
        }
      }
    }
  }
}

}  // namespace lacake::faults
