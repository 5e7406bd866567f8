#include "terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace lacake::cli {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view{} : value;
}

std::string clock_text(double seconds) {
  const auto s = (long)(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

Terminal::Terminal(int fd, std::string_view color)
    : fd_(fd),
      interactive_(::isatty(fd) == 1 && environment("TERM") != "dumb"),
      color_(color == "always" || (color == "auto" && interactive_ && environment("NO_COLOR").empty())) {}

std::size_t Terminal::columns() const {
  winsize size{};
  return ::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string Terminal::paint(Style style, std::string_view text) const {
  if (!color_ || style == Style::kPlain) return std::string(text);
  constexpr std::string_view kCodes[] = {"0", "1", "2", "1;31", "32", "36"};
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[(int)style], text);
}

bool utf8_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    std::string value(environment(name));
    if (value.empty()) continue;
    std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return std::tolower(c); });
    return value.find("utf-8") != std::string::npos || value.find("utf8") != std::string::npos;
  }
  return false;
}

std::string wrapped(const std::string& text, std::size_t indent, std::size_t columns) {
  std::string result;
  std::size_t column = columns;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (column + 1 + word.size() > columns) {
      result += result.empty() ? "" : "\n";
      result.append(indent, ' ');
      column = indent;
    } else {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
    begin = end + 1;
  }
  return result + "\n";
}

std::string progress_line(std::string_view label, std::size_t done, std::size_t total, double elapsed_s,
                          std::size_t columns, bool utf8) {
  const double share = total == 0 ? 1.0 : std::min(1.0, (double)done / (double)total);
  std::string right = fmt::format(" {:3.0f}%", share * 100);
  // The first moments say nothing about what is to come.
  if (done > 0 && elapsed_s > 0.2) {
    const double rate = (double)done / elapsed_s;
    right += fmt::format("  {:.0f} tokens/s", rate);
    right += fmt::format("  {} left", clock_text((double)(total - std::min(done, total)) / rate));
  }
  std::string line = fmt::format("{} ", label);
  const std::size_t taken = line.size() + right.size();
  if (taken + 6 <= columns) {
    const std::size_t width = std::min<std::size_t>(40, columns - taken);
    const auto filled = (std::size_t)(share * (double)width);
    for (std::size_t i = 0; i < width; ++i) line += i < filled ? (utf8 ? "█" : "#") : (utf8 ? "░" : ".");
    return line + right;
  }
  return (line + right).substr(0, columns);
}

ProgressBar::ProgressBar(const Terminal& terminal, std::string label, bool quiet)
    : terminal_(terminal), label_(std::move(label)), active_(terminal.interactive() && !quiet) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::show(std::size_t done, std::size_t total) {
  const Clock::time_point now = Clock::now();
  if (!active_ || now < next_) return;
  next_ = now + std::chrono::milliseconds(100);
  const double elapsed_s = std::chrono::duration<double>(now - begin_).count();
  // One column stays free: some terminals wrap as soon as the last one is written.
  const std::size_t columns = std::max<std::size_t>(terminal_.columns(), 2) - 1;
  const std::string line = progress_line(label_, done, total, elapsed_s, columns, utf8_locale());
  std::fputs(fmt::format("\r{}\x1b[K", line).c_str(), stderr);
  drawn_ = true;
}

}  // namespace lacake::cli
