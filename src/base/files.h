#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lacake {

// Whole files, in and out. Every function throws Error(kInput) whose subject is the file, with the system's reason.
// Safe to call from several threads; two writers of one file leave the file of one of them.

// The bytes of a file or a pipe.
std::string read_file(const std::string& path);

// The same; empty where there is no such file.
std::optional<std::string> read_file_if_there(const std::string& path);

// What is left to read of an open descriptor, which stays open; `name` stands for it in errors.
std::string read_descriptor(int descriptor, const std::string& name);

// Writes all bytes to an open descriptor. Returns 0, or the errno of the failure: what a closed pipe or a full disk
// means is for the caller to say.
int write_descriptor(int descriptor, std::string_view bytes);

// Appends whole lines and waits until they are on disk: all of them are there when this returns, none if it throws.
void append_durably(const std::string& path, std::string_view lines);

// The whole new file or the old one, also if the machine stops: written beside its place, synced, renamed, and the
// folder synced too. Costs a wait for the disk, of milliseconds to tenths of a second.
void replace_durably(const std::string& path, std::string_view bytes);

}  // namespace lacake
