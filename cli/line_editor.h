#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lacake::cli {

// A command that Tab completes at the beginning of a line.
struct EditedCommand {
  std::string_view name;  // "/load"
  bool takes_file;
};

// Lines that a user types at a terminal, by libedit: edited in place, with those before at the arrow keys, and a pasted
// text as part of one line, however many lines it has. Ctrl-C gives up the line.
//
// One at a time: signals and the locale are the process's. While no line is read, the terminal and its signals are as
// they were before.
class LineEditor {
 public:
  // Whether standard input and standard error are a terminal that can be edited on, and its letters UTF-8.
  static bool usable();

  // `prompt` stands before each line, green if `color`. `commands` must outlive the editor.
  LineEditor(std::string prompt, bool color, std::span<const EditedCommand> commands);
  ~LineEditor();

  // A line as if it had been typed before.
  void remember(const std::string& line);

  // The next line, UTF-8 and without its end. Empty at the end: Ctrl-D, or Ctrl-C on a line without letters.
  std::optional<std::string> next();
  bool interrupted() const;  // it ended by Ctrl-C

 private:
  class Editing;
  std::unique_ptr<Editing> editing_;
};

}  // namespace lacake::cli
