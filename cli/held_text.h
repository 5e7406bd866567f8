#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "kept.h"
#include "terminal.h"

namespace lacake::cli {

// A text by what is left of it: each token with the share of layers (and KV heads) that still hold it.
struct HeldToken {
  std::string text;  // bytes; a character may lie in several tokens
  double share = 0;  // 0: no layer, 1: all of them
};
std::vector<HeldToken> held_tokens(const Kept& kept, const std::vector<std::string>& pieces);

// In a terminal: bold where nearly all layers hold it, dim where few do, a dot for each token that none does (in runs).
std::string held_text(const std::vector<HeldToken>& tokens, const Terminal& terminal);

// A page that needs nothing else: the text, darker where more layers hold it, with the share under the pointer.
//   title, facts  shown above it, as they are
std::string held_page(const std::vector<HeldToken>& tokens, const std::string& title, const std::string& facts);

}  // namespace lacake::cli
