#include "generation/held_text.h"

#include <string_view>

#include "base/blanks.h"

namespace lacake {

std::optional<std::size_t> HeldText::beginning_of(const std::string& text,
                                                  std::span<const ControlPlace> of_text) const {
  if (prompt.empty() || !text.starts_with(prompt)) return {};
  const auto if_same = [&](std::size_t size) {
    return same_places(of_text, size, controls) ? std::optional(size) : std::nullopt;
  };
  const std::string_view rest = std::string_view(text).substr(prompt.size());
  if (rest.starts_with(answered)) return if_same(prompt.size() + answered.size());
  const std::string_view answer = without_blanks(answered);
  if (rest.starts_with(answer) && rest.size() > answer.size()) return if_same(prompt.size() + answer.size());
  return {};
}

}  // namespace lacake
