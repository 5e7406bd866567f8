#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/open_file.h"

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

// The file that would be replaced: a link is followed to what it leads to, which need not be there yet. Throws where
// that is there and is no regular file (a folder, a device), or may not be written; for a name that leaves no room for
// that of the file beside it; and for a link of /proc, which leads to what a process has open and not to a name.
std::string file_to_replace(const std::string& path);

// Whether two paths lead to one file: one that is there, by whatever names, or one that would be made by both.
bool is_same_file(const std::string& path, const std::string& other);

// What tells a file from one that was written into it or in its place since.
struct FileMark {
  std::uint64_t device = 0, inode = 0, bytes = 0;
  std::filesystem::file_time_type written = {};

  bool operator==(const FileMark&) const = default;
};
// Of the file that a path leads to now; empty where there is none.
std::optional<FileMark> file_mark(const std::string& path);

// The whole new file or the old one, also if the machine stops: written beside its place, synced, renamed, and the
// folder synced too. Costs a wait for the disk, of milliseconds to tenths of a second. It is file_to_replace() that is
// replaced, and who may read and write it stays as it was.
void replace_durably(const std::string& path, std::string_view bytes);

// The same for a file that is written piece by piece. One that goes before commit() leaves the old file as it is.
//
// What is written meanwhile is "FILE.tmp", or "FILE.1.tmp" and so on while others write the same. It is locked as long
// as it is written, so what a killed process left is taken over by the next writer and does not pile up.
class Replacement {
 public:
  explicit Replacement(std::string path);
  ~Replacement();
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  // Throws Error as above: the old file is as it was, and nothing more may be written.
  void write(std::string_view bytes);
  // The new file takes the old one's place. What throws here before the renaming leaves the old file; an error of the
  // folder's sync leaves the new one, of which a power cut may still make the old one.
  void commit();

 private:
  std::string path_, file_path_, beside_;  // as asked for; behind links; what is written meanwhile
  OpenFile file_;                          // none: committed
};

}  // namespace lacake
