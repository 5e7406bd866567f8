#pragma once

#include <string>
#include <string_view>

namespace lacake::eval {

// The whole of a file; "" where there is none. Throws Error(kInput) naming the file if it cannot be read.
std::string read_if_there(const std::string& path);

// Appends whole lines and waits until they are on disk: all of them are there when this returns, none if it throws
// Error(kInput) (a full disk).
void append_durably(const std::string& path, std::string_view lines);

// The whole new file or the old one, also if the machine stops: written beside its place, flushed, then moved there.
// Throws Error(kInput).
void replace_durably(const std::string& path, std::string_view bytes);

}  // namespace lacake::eval
