#pragma once

#include <cstdint>

namespace lacake {

// All of these may be called from any thread, and give 0 where the system does not tell.

// Resident memory of this process, in bytes: now, and the most so far.
std::uint64_t resident_bytes();
std::uint64_t peak_resident_bytes();

// Memory of the machine, in bytes: all of it, and what new allocations can have now without swapping (all of it where
// the system does not tell what others hold). Limits of a container are not looked at.
std::uint64_t machine_memory_bytes();
std::uint64_t free_memory_bytes();

}  // namespace lacake
