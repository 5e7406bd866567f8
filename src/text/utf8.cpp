#include "text/utf8.h"

#include <cstdint>

namespace lacake {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// The bytes at the front of a text: a character, the beginning of one that the text's end cuts off, or neither.
struct Front {
  enum class Kind { kCharacter, kCut, kMalformed };
  Kind kind;
  std::size_t length;  // at least 1
};

// REQUIRES: !text.empty().
Front front_of(std::string_view text) {
  const auto byte = [&](std::size_t i) { return (std::uint8_t)text[i]; };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {Front::Kind::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Front::Kind::kMalformed, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

  // The lead byte narrows what may follow it: that is where overlong forms, surrogates and too large values are.
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Front::Kind::kCut, i};
    if (byte(i) < low || byte(i) > high) return {Front::Kind::kMalformed, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Front::Kind::kCharacter, length};
}

}  // namespace

std::optional<std::size_t> invalid_utf8_offset(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Front front = front_of(text.substr(at));
    if (front.kind != Front::Kind::kCharacter) return at;
    at += front.length;
  }
  return std::nullopt;
}

std::string Utf8Stream::push(std::string_view bytes) {
  held_ += bytes;
  std::string known;
  std::size_t at = 0;
  while (at < held_.size()) {
    const std::string_view rest = std::string_view(held_).substr(at);
    const Front front = front_of(rest);
    if (front.kind == Front::Kind::kCut) break;
    known += front.kind == Front::Kind::kCharacter ? rest.substr(0, front.length) : kReplacement;
    at += front.length;
  }
  held_.erase(0, at);
  return known;
}

std::string Utf8Stream::flush() {
  const bool cut = !held_.empty();
  held_.clear();
  return cut ? std::string(kReplacement) : std::string();
}

}  // namespace lacake
