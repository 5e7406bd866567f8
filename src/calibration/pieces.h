#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace lacake {

// A text in pieces of about `bytes` bytes, cut where lines or words end, or else between characters. A rest of less
// than half a piece is left out, unless it is all there is.
std::vector<std::string_view> pieces_of(std::string_view text, std::size_t bytes);

// `n` of `n_all` numbers 0 .. n_all - 1, evenly over all of them.
std::vector<std::size_t> evenly(std::size_t n, std::size_t n_all);

}  // namespace lacake
