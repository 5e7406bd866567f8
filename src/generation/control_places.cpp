#include "generation/control_places.h"

#include <algorithm>

namespace lacake {
void add_control_places(const Model& model, std::span<const Token> tokens, std::string_view text, std::size_t offset,
                        std::vector<ControlPlace>& places) {
  std::size_t at = 0;
  for (const Token token : tokens) {
    const std::string spelling = model.piece(token, true);
    if (spelling.empty() || !model.piece(token, false).empty()) continue;
    const std::size_t found = text.find(spelling, at);
    places.push_back({found == text.npos ? ControlPlace::kNowhere : offset + found, token});
    if (found != text.npos) at = found + spelling.size();
  }
}

std::vector<ControlPlace> control_places(const Model& model, const PromptText& prompt) {
  std::vector<ControlPlace> places;
  const auto between = [&](std::size_t begin, std::size_t end) {
    if (begin == end) return;
    const std::string gap = prompt.text.substr(begin, end - begin);
    add_control_places(model, model.tokenize({gap}, /*opening*/ false), gap, begin, places);
  };
  std::size_t begin = 0;
  for (const PromptText::Range& letters : prompt.letters) {
    between(begin, letters.begin);
    begin = letters.end;
  }
  between(begin, prompt.text.size());
  return places;
}

bool same_places(std::span<const ControlPlace> of_text, std::size_t size, std::span<const ControlPlace> places) {
  const auto end =
      std::find_if(of_text.begin(), of_text.end(), [&](const auto& place) { return place.offset >= size; });
  return std::equal(of_text.begin(), end, places.begin(), places.end());
}

}  // namespace lacake
