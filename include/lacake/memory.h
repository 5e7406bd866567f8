#pragma once

#include <cstdint>

namespace lacake {

// Resident memory of this process, in bytes: now, and the most so far. 0 where the system does not tell.
std::uint64_t resident_bytes();
std::uint64_t peak_resident_bytes();

}  // namespace lacake
