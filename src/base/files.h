#pragma once

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

// The whole new file or the old one, also if the machine stops: written beside its place, synced, renamed, and the
// folder synced too. Costs a wait for the disk, of milliseconds to tenths of a second.
void replace_durably(const std::string& path, std::string_view bytes);

// The same for a file that is written piece by piece. One that goes before commit() leaves the old file as it is.
//
// What is written meanwhile is "PATH.tmp", or "PATH.1.tmp" and so on while others write the same. It is locked as long
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
  std::string path_, beside_;
  OpenFile file_;  // none: committed
};

}  // namespace lacake
