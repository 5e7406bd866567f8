#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/open_file.h"

namespace lacake {

// What the store asks of the system. Where it refuses, these throw Error(kInput) with the path and the reason.

// The lock of an open file (base/open_file.h).
void lock(OpenFile& file, const std::string& path);      // waits
bool try_lock(OpenFile& file, const std::string& path);  // false: it is somebody else's

void make_private_folder(const std::string& path);
bool is_there(const std::string& path);
std::optional<std::uint64_t> file_bytes(const std::string& path);  // none: no such file
void rename_file(const std::string& from, const std::string& to);
void remove_file(const std::string& path);  // none is fine too
void sync_file(const std::string& path);
void sync_folder(const std::string& path);

// A file's time of modification, to the precision that the file system has.
void set_modified_now(const std::string& path);
std::chrono::system_clock::time_point modified(const struct stat& file);

}  // namespace lacake
