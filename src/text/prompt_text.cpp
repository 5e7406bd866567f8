#include <algorithm>
#include <cassert>
#include <utility>

#include "lacake/chat.h"

namespace lacake {

PromptText PromptText::as_letters(std::string text) {
  PromptText result;
  if (!text.empty()) result.letters = {{0, text.size()}};
  result.text = std::move(text);
  return result;
}

PromptText PromptText::first(std::size_t offset) const {
  assert(offset <= text.size());
  PromptText beginning = {text.substr(0, offset), {}};
  for (const Range& range : letters) {
    if (range.begin < offset) beginning.letters.push_back({range.begin, std::min(range.end, offset)});
  }
  return beginning;
}

PromptText PromptText::from(std::size_t offset) const {
  assert(offset <= text.size());
  PromptText rest = {text.substr(offset), {}};
  for (const Range& range : letters) {
    if (range.end > offset) rest.letters.push_back({std::max(range.begin, offset) - offset, range.end - offset});
  }
  return rest;
}

}  // namespace lacake
