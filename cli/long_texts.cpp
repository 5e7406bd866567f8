#include "long_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace lacake::cli {
namespace {

constexpr std::size_t kShownLines = 10;
constexpr std::size_t kShownBytes = 1000;

}  // namespace

std::string LongTexts::shown(const std::string& text) {
  const auto n_lines = (std::size_t)std::ranges::count(text, '\n') + 1;
  if (n_lines <= kShownLines && text.size() <= kShownBytes) return text;
  for (const auto& [name, held] : text_of_) {
    if (held == text) return name;
  }
  const std::string size = n_lines > 1 ? fmt::format("{} lines", n_lines) : fmt::format("{} bytes", text.size());
  const std::string name = fmt::format("[text {}: {}]", text_of_.size() + 1, size);
  text_of_.emplace(name, text);
  return name;
}

std::string LongTexts::whole(const std::string& line) const {
  // From left to right, so that nothing inside a text counts as a name.
  std::string result;
  for (std::size_t begin = 0; begin < line.size();) {
    const auto here = std::ranges::find_if(
        text_of_, [&](const auto& named) { return line.compare(begin, named.first.size(), named.first) == 0; });
    if (here == text_of_.end()) {
      result += line[begin++];
    } else {
      result += here->second;
      begin += here->first.size();
    }
  }
  return result;
}

}  // namespace lacake::cli
