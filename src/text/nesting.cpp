#include "text/nesting.h"

#include <algorithm>

namespace lacake {

std::size_t nesting_of(std::string_view text, bool json) {
  std::size_t depth = 0, deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (json && c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      depth += 1;
      deepest = std::max(deepest, depth);
    } else if ((c == ']' || c == '}') && depth > 0) {
      depth -= 1;
    }
  }
  return deepest;
}

}  // namespace lacake
