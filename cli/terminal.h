#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace lacake::cli {

enum class Style { kPlain, kBold, kDim, kRed, kGreen, kCyan };

// What a stream that people may look at can show.
class Terminal {
 public:
  // color: "auto" (a terminal, and neither NO_COLOR nor TERM=dumb says no), "always" or "never".
  Terminal(int fd, std::string_view color);

  bool interactive() const { return interactive_; }  // a terminal that understands cursor movement
  bool color() const { return color_; }
  std::size_t columns() const;  // now; 80 where nobody knows

  std::string paint(Style style, std::string_view text) const;

 private:
  int fd_;
  bool interactive_;
  bool color_;
};

// Whether the user's locale shows UTF-8.
bool utf8_locale();

// Breaks `text` at spaces into lines of at most `columns`, each with `indent` spaces before it and a newline after it.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t columns);

// One line about work that goes on, at most `columns` wide.
std::string progress_line(std::string_view label, std::size_t done, std::size_t total, double elapsed_s,
                          std::size_t columns, bool utf8);

// That line on standard error, redrawn in place. Draws nothing where standard error is no terminal; leaves nothing
// behind when it goes.
class ProgressBar {
 public:
  ProgressBar(const Terminal& terminal, std::string label, bool quiet);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void show(std::size_t done, std::size_t total);  // cheap to call often

 private:
  using Clock = std::chrono::steady_clock;
  const Terminal& terminal_;
  std::string label_;
  bool active_;
  bool drawn_ = false;
  Clock::time_point begin_ = Clock::now();
  Clock::time_point next_ = begin_;
};

}  // namespace lacake::cli
