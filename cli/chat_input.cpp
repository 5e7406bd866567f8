#include "chat_input.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include "base/open_file.h"
#include "interrupt.h"
#include "lacake/error.h"
#include "output.h"

namespace lacake::cli {
namespace {

constexpr const char* kPrompt = "> ";
constexpr const char* kInputName = "standard input";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// A conversation goes on without its history.
void warn_of_history(const Error& error) { warn(fmt::format("no history: {}", error.what())); }

}  // namespace

void require_input() {
  if (uninterrupted([] { return ::read(STDIN_FILENO, nullptr, 0); }) < 0) fail_at(kInputName, "read", errno);
}

std::optional<std::string> InputLines::next() {
  for (;;) {
    if (std::optional<std::string> line = held_line(false)) return line;
    if (!read_more()) return held_line(true);
  }
}

std::optional<std::string> InputLines::next_at_hand() {
  for (pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};;) {
    if (std::optional<std::string> line = held_line(false)) return line;
    if (::poll(&input, 1, 0) != 1 || !read_more()) return held_line(true);
  }
}

std::optional<std::string> InputLines::held_line(bool at_end) {
  const std::size_t end = held_.find('\n');
  if (held_.empty() || (end == held_.npos && !at_end)) return {};
  std::string line = held_.substr(0, end);
  held_.erase(0, end == held_.npos ? end : end + 1);
  if (!std::exchange(begun_, true) && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

bool InputLines::read_more() {
  char bytes[4096];
  const ssize_t got = uninterrupted([&] { return ::read(STDIN_FILENO, bytes, sizeof bytes); });
  if (got < 0) fail_at(kInputName, "read", errno);
  held_.append(bytes, (std::size_t)got);
  return got > 0;
}

bool ChatInput::edits() { return LineEditor::usable(); }

ChatInput::ChatInput(const Options& options, const Terminal& terminal, std::span<const EditedCommand> commands) {
  if (!edits()) {
    if (::isatty(STDIN_FILENO) == 1) prompt_ = terminal.paint(Style::kGreen, kPrompt);
    return;
  }
  editor_.emplace(kPrompt, terminal.color(), commands);
  if (!options.no_history) read_history();
}

void ChatInput::read_history() {
  try {
    const std::string path = chat_history_path();
    if (path.empty()) throw Error({.subject = "HOME", .expected = "a folder to keep it in", .found = "none"});
    history_.emplace(path);
    for (const std::string& line : history_->lines()) editor_->remember(line);
  } catch (const Error& error) {
    warn_of_history(error);
  }
}

void ChatInput::add_to_history(const std::string& line) {
  if (!history_ || line.empty()) return;
  try {
    history_->add(line);
  } catch (const Error& error) {
    warn_of_history(error);
    history_.reset();
  }
}

std::optional<std::string> ChatInput::next() {
  leave_on_interrupt();
  if (!editor_) {
    std::fputs(prompt_.c_str(), stderr);
    std::optional<std::string> line = lines_.next();
    if (!line && !prompt_.empty()) std::fputs("\n", stderr);
    return line;
  }
  std::optional<std::string> line = editor_->next();
  if (line) add_to_history(*line);
  return line;
}

}  // namespace lacake::cli
