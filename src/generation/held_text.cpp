#include "generation/held_text.h"

#include <string_view>

namespace lacake {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

}  // namespace

std::optional<std::size_t> HeldText::beginning_of(const std::string& text) const {
  if (prompt.empty() || !text.starts_with(prompt)) return {};
  const std::string_view rest = std::string_view(text).substr(prompt.size());
  if (rest.starts_with(answered)) return prompt.size() + answered.size();
  const std::string_view answer = trimmed(answered);
  if (rest.starts_with(answer) && rest.size() > answer.size()) return prompt.size() + answer.size();
  return {};
}

}  // namespace lacake
