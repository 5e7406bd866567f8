#pragma once

#include <algorithm>
#include <string>

#include "lacake/chat.h"
#include "lacake/model.h"

namespace lacake {

// The bytes that a token adds to an answer of this format: control tokens have text where it belongs to the answer.
inline std::string answer_piece(const Model& model, const AnswerFormat& format, Token token) {
  const std::vector<Token>& shown = format.shown_tokens();
  return model.piece(token, std::binary_search(shown.begin(), shown.end(), token));
}

}  // namespace lacake
