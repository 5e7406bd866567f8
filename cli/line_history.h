#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/open_file.h"

namespace lacake::cli {

// What was typed in earlier conversations: a file of one JSON string a line, that only its user may read. Several
// programs may add to it at the same time.
class LineHistory {
 public:
  static constexpr std::size_t kMaxLines = 1000;
  static constexpr std::size_t kMaxBytes = 1 << 16;  // of one line; longer ones, pasted books say, are not kept

  // Reads the file, makes it and its folder where they are not there, and drops the oldest lines of one that has grown
  // to twice the most. Throws Error(kInput) naming what cannot be read or written.
  explicit LineHistory(std::string path);

  // Oldest first.
  const std::vector<std::string>& lines() const { return lines_; }

  // Throws Error(kInput) if it cannot be written.
  void add(const std::string& line);

 private:
  std::string path_;
  OpenFile file_;
  std::vector<std::string> lines_;
};

// $XDG_STATE_HOME/lacake/chat_history, by default in ~/.local/state. "": nobody says where the user's home is.
std::string chat_history_path();

}  // namespace lacake::cli
