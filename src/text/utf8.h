#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace lacake {

// Offset of the first byte that does not belong to well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, no
// surrogates, nothing above U+10FFFF). Empty if all of the text is well-formed. A character cut off at the end counts
// as malformed.
std::optional<std::size_t> invalid_utf8_offset(std::string_view text);

// Turns the bytes of tokens, which may end inside a character, into text that is UTF-8 at every moment. What push() and
// flush() return, joined, does not depend on where the bytes were split. Bytes that can't be part of any character
// become U+FFFD, one for each longest run that could have begun one.
class Utf8Stream {
 public:
  // Whole characters that are known by now; at most 3 bytes are held back.
  std::string push(std::string_view bytes);

  // The end of the text: what is held back was no character. The stream starts anew.
  std::string flush();

 private:
  std::string held_;
};

}  // namespace lacake
