#pragma once

#include <optional>
#include <span>
#include <string>

#include "line_editor.h"
#include "line_history.h"
#include "options.h"
#include "terminal.h"

namespace lacake::cli {

// Lines of standard input, without its buffering: what comes after a line stays for the next read.
class InputLines {
 public:
  std::optional<std::string> next();  // empty at the end of the input

 private:
  std::string held_;
};

// What the user of `lacake chat` says: typed at a terminal, where lines are edited and those of earlier conversations
// are at hand, or a line of a file or pipe after the other.
class ChatInput {
 public:
  // Whether lines are edited: otherwise --no-history would be without effect.
  static bool edits();

  ChatInput(const Options& options, const Terminal& terminal, std::span<const EditedCommand> commands);

  // Empty at the end.
  std::optional<std::string> next();
  bool interrupted() const { return editor_ && editor_->interrupted(); }  // it ended by Ctrl-C

 private:
  void read_history();
  void add_to_history(const std::string& line);

  std::string prompt_;  // without an editor; "" where nobody waits for it
  InputLines lines_;
  std::optional<LineEditor> editor_;
  std::optional<LineHistory> history_;
};

}  // namespace lacake::cli
