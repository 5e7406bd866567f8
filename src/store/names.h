#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lacake {

// What the files of a store are called. Everything that the store knows stands in names, which the system changes whole
// or not at all, so that there is no index to be torn or to be read, and no byte beside the conversations' own.
//
//     lock                        locked while names are looked at and changed
//     epoch.EPOCH                 the epoch that was given last
//     NAME.saved                  a conversation; its time of modification is its last use
//     NAME.EPOCH.RESERVED.lease   locked by its owner; how many bytes it is about to write
//     NAME.EPOCH.new...           what that owner is writing
//
// A NAME is the id itself where that is a lower-case word of letters, digits, '-' and '_' (a UUID, say), so that people
// find it. Every other id is "=" and base32 in lower case: no id is a path, a hidden file or a program's flag, and no
// two ids are one file where case is ignored. With 128 bytes of id all names have 255 bytes at most.

// Throws Error(kUsage) if the id is empty or too long.
std::string name_of_id(std::string_view id);

// None if no id has this name.
std::optional<std::string> id_of_name(std::string_view name);

struct FileName {
  enum class Kind { kEpoch, kSaved, kLease, kNew, kOther };
  Kind kind = Kind::kOther;
  std::string name = {};       // kSaved, kLease, kNew
  std::uint64_t epoch = 0;     // kEpoch, kLease, kNew
  std::uint64_t reserved = 0;  // kLease
};
FileName parse_file_name(std::string_view file);

std::string epoch_file(std::uint64_t epoch);
std::string saved_file(std::string_view name);
std::string lease_file(std::string_view name, std::uint64_t epoch, std::uint64_t reserved);
std::string new_file(std::string_view name, std::uint64_t epoch);

}  // namespace lacake
