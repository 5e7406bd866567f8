#pragma once

// What a file system may have on its disk after a power cut, by the calls that a program made (faults.h): what was
// synced, and of the rest any part in blocks of 4 KiB, whatever the order of the calls.

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "faults/faults.h"

namespace lacake::faults {

// A file as it may be found.
struct Found {
  bool renamed = false;  // at the place that it was to take; else where it was written
  std::string bytes;
  std::size_t after = 0;  // calls that had been made
};

// Calls `check` with what may be found of `path`, and beside it, after each of the calls: all subsets of a few blocks,
// and some of many. The file that was there before is found where nothing is `renamed`.
void after_power_cuts(std::span<const Call> calls, const std::string& path,
                      const std::function<void(const Found&)>& check);

}  // namespace lacake::faults
