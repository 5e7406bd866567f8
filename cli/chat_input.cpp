#include "chat_input.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "interrupt.h"
#include "lacake/error.h"
#include "output.h"

namespace lacake::cli {
namespace {

constexpr const char* kPrompt = "> ";

// A conversation goes on without its history.
void warn_of_history(const Error& error) { warn(fmt::format("no history: {}", error.what())); }

}  // namespace

std::optional<std::string> InputLines::next() {
  for (;;) {
    if (const std::size_t end = held_.find('\n'); end != std::string::npos) {
      std::string line = held_.substr(0, end);
      held_.erase(0, end + 1);
      return line;
    }
    char bytes[4096];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return held_.empty() ? std::nullopt : std::optional(std::exchange(held_, {}));
    held_.append(bytes, (std::size_t)got);
  }
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
