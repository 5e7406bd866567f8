#include "calibration/pieces.h"

#include <algorithm>

namespace lacake {

std::vector<std::string_view> pieces_of(std::string_view text, std::size_t bytes) {
  std::vector<std::string_view> pieces;
  while (text.size() > bytes) {
    // Behind the last line break of the second half, or else the last space, or else before a character begins.
    std::size_t end = text.find_last_of('\n', bytes - 1);
    if (end == text.npos || end < bytes / 2) end = text.find_last_of(' ', bytes - 1);
    if (end == text.npos || end < bytes / 2) {
      for (end = bytes; end > 1 && ((unsigned char)text[end] & 0xc0) == 0x80;) --end;
      --end;
    }
    pieces.push_back(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  if (pieces.empty() || text.size() >= bytes / 2) pieces.push_back(text);
  return pieces;
}

std::vector<std::size_t> evenly(std::size_t n, std::size_t n_all) {
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < std::min(n, n_all); ++i) numbers.push_back(i * n_all / std::min(n, n_all));
  return numbers;
}

}  // namespace lacake
