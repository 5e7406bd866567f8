#pragma once

#include <cstdint>
#include <string>

namespace lacake {

// "11.8 MiB", "512 B": a number of bytes for people. Never more than four significant digits. From any thread.
std::string bytes_text(std::uint64_t bytes);

}  // namespace lacake
