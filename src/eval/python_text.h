#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lacake::eval {

// Text as Python's str sees it: published scores are defined by its methods.

// Characters of UTF-8 text; U+FFFD for bytes that are no part of any.
std::u32string characters(std::string_view text);

bool is_space(char32_t c);  // str.isspace
bool is_digit(char32_t c);  // \d of a regular expression: ASCII, Arabic, Devanagari and full-width digits
bool is_word(char32_t c);   // \w
bool is_ascii_punctuation(char32_t c);

// str.lower, one character for one: U+0130, which becomes two in Python, stays.
std::u32string lower(std::u32string_view text);

// str.split(): what lies between runs of white space.
std::vector<std::u32string> words(std::u32string_view text);

// re.findall(r"\d+"): runs of digits.
std::vector<std::u32string> numbers(std::u32string_view text);

}  // namespace lacake::eval
