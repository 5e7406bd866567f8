#pragma once

#include <string>
#include <string_view>

namespace lacake::cli {

// Thrown where the reader of standard output has gone (`lacake ... | head -1`): the program then ends, with a word
// only about what was to be saved.
struct OutputClosed {};

// Writes to standard output at once, unbuffered: tokens are seen as they come. Throws OutputClosed, or Error(kInput) if
// it cannot be written for another reason (a full disk).
void write_output(std::string_view text);

// Whether its reader has gone, known without writing.
bool output_closed();

// What is said where an answer that nobody read was to be kept in this file.
std::string unread_line(const std::string& path);

// A line for the user on standard error about something that was lost, which --quiet does not hide. "": none.
void warn(const std::string& line);

// Throws Error(kUsage) naming `flag` if replace_durably(path) is bound to fail: known before hours of work, not after.
void require_writable(const std::string& path, std::string_view flag);

}  // namespace lacake::cli
