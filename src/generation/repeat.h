#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lacake/engine.h"
#include "lacake/generation.h"

namespace lacake {

// What stands in a repeat before the tokens that are repeated, as tokens.
struct RepeatFrame {
  std::vector<Token> first;  // told at the first chunk
  std::vector<Token> later;  // at each other: the last tokens of the chunk before follow
  std::vector<Token> turn;   // the answer begins
};
RepeatFrame repeat_frame(const Model& model, bool chat);

// What is said in a text and of its `n_tokens` tokens, the last of which are the text's.
RepeatedText repeated_text(const Model& model, const PromptText& text, std::size_t n_tokens, bool chat);

// A probe for each `chunk` of the text's tokens.
std::vector<Probe> repeat_probes(std::span<const Token> tokens, const RepeatedText& text, std::size_t chunk,
                                 const RepeatFrame& frame);

// How a model is told to (KVzip, in the words of its authors' code).
inline constexpr const char* kRepeatFirst = "\n\nRepeat the previous context exactly.";
inline constexpr const char* kRepeatLater = "\n\nRepeat the part of the previous context exactly, starting with";

}  // namespace lacake
