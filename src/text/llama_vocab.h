#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace lacake {

// The tokens of a text and the bytes of a token, by any vocabulary of libllama's: what Vocabulary and llama.cpp's own
// parsers stand on.

// Exactly what libllama makes of it, two BOS too. Throws Error(kInput) for 2 GiB of text or more.
std::vector<std::int32_t> llama_tokens(const llama_vocab* vocab, std::string_view text, SpecialTokens specials);

// REQUIRES: 0 <= token < number of tokens.
std::string llama_piece(const llama_vocab* vocab, std::int32_t token, ControlTokens control);

}  // namespace lacake
