#include "eval/python_text.h"

#include <locale.h>
#include <wctype.h>

#include <algorithm>

#include "text/utf8.h"

namespace lacake::eval {
namespace {

// Character properties that do not depend on the user's locale. Where the system has no C.UTF-8: null, ASCII only.
locale_t unicode() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

template <typename Is>
std::vector<std::u32string> runs(std::u32string_view text, Is is) {
  std::vector<std::u32string> result;
  for (std::size_t i = 0; i < text.size();) {
    if (!is(text[i])) {
      ++i;
      continue;
    }
    const std::size_t begin = i;
    while (i < text.size() && is(text[i])) ++i;
    result.emplace_back(text.substr(begin, i - begin));
  }
  return result;
}

}  // namespace

std::u32string characters(std::string_view text) {
  Utf8Stream stream;
  std::string clean = stream.push(text);
  clean += stream.flush();
  std::u32string result;
  for (std::size_t i = 0; i < clean.size();) {
    const auto first = (unsigned char)clean[i];
    const std::size_t n = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    char32_t c = n == 1 ? first : first & (0xffU >> (n + 1));
    for (std::size_t k = 1; k < n; ++k) c = (c << 6) | ((unsigned char)clean[i + k] & 0x3fU);
    result += c;
    i += n;
  }
  return result;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_digit(char32_t c) {
  constexpr char32_t kZeros[] = {U'0', 0x660, 0x6f0, 0x966, 0xff10};
  return std::any_of(std::begin(kZeros), std::end(kZeros), [&](char32_t zero) { return c >= zero && c < zero + 10; });
}

bool is_word(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  return unicode() != nullptr && iswalnum_l((wint_t)c, unicode()) != 0;
}

bool is_ascii_punctuation(char32_t c) { return c > ' ' && c < 0x7f && (!is_word(c) || c == '_'); }

std::u32string lower(std::u32string_view text) {
  std::u32string result(text);
  for (char32_t& c : result) {
    if (c < 0x80) {
      if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    } else if (unicode() != nullptr && c != 0x130) {
      c = (char32_t)towlower_l((wint_t)c, unicode());
    }
  }
  return result;
}

std::vector<std::u32string> words(std::u32string_view text) {
  return runs(text, [](char32_t c) { return !is_space(c); });
}

std::vector<std::u32string> numbers(std::u32string_view text) { return runs(text, is_digit); }

}  // namespace lacake::eval
