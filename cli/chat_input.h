#pragma once

#include <optional>
#include <span>
#include <string>

#include "line_editor.h"
#include "line_history.h"
#include "options.h"
#include "terminal.h"

namespace lacake::cli {

// Throws Error(kInput) where standard input cannot be read: known before a model is opened, which would get its number
// where it is closed.
void require_input();

// Lines of standard input, without its buffering: what comes after a line stays for the next read. A carriage return at
// the end of a line and a byte order mark at the beginning are other systems' and no part of what is said.
class InputLines {
 public:
  // Empty at the end of the input. Throws Error(kInput) where it cannot be read.
  std::optional<std::string> next();
  // The next line if it is there already, else nothing.
  std::optional<std::string> next_at_hand();

 private:
  std::optional<std::string> held_line(bool at_end);
  bool read_more();  // false: it is at its end

  std::string held_;
  bool begun_ = false;
};

// What the user of `lacake chat` says: typed at a terminal, where lines are edited and those of earlier conversations
// are at hand, or a line of a file or pipe after the other.
class ChatInput {
 public:
  // Whether lines are edited: otherwise --no-history would be without effect.
  static bool edits();

  ChatInput(const Options& options, const Terminal& terminal, std::span<const EditedCommand> commands);

  // Empty at the end. Throws Error(kInput) where standard input cannot be read.
  std::optional<std::string> next();
  // Of a file or pipe: the next line if it is there already.
  std::optional<std::string> next_at_hand() { return editor_ ? std::nullopt : lines_.next_at_hand(); }
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
