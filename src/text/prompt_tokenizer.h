#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/chat.h"

namespace lacake {

class Vocabulary;

// Tokenises prompts whose letters stay letters.
//
// Special are the control and unknown tokens of the vocabulary, and of those that its authors added by themselves
// ("user-defined") the ones that a chat template writes or that look like `<|this|>`: the others (runs of spaces, HTML
// tags of Gemma) are ordinary text to the model, wherever they come from.
class PromptTokenizer {
 public:
  // Borrows the vocabulary, which must outlive this.
  PromptTokenizer(const Vocabulary& vocabulary, std::string_view chat_template);

  // Where no special token's text touches the letters, and that is nearly always: exactly the tokens of the whole text
  // with special tokens parsed.
  std::vector<Token> tokenize(const PromptText& text, bool add_special) const;

 private:
  struct Special {
    std::string text;
    Token token;
    bool cut;           // libllama finds it even where it is told not to parse special tokens
    bool strips_left;   // swallows the space in front of it
    bool strips_right;  // and behind it
  };
  struct Found {
    std::size_t begin, end;
    const Special* special;
  };

  const Special* at(std::string_view text, std::size_t offset) const;
  void append_letters(std::string_view text, std::vector<Token>& tokens) const;
  std::vector<Token> continued(std::string_view text) const;

  const Vocabulary& vocabulary_;
  std::vector<Special> specials_;                                 // by first byte, then the longest first
  std::array<std::pair<std::size_t, std::size_t>, 256> of_byte_;  // range in specials_
};

}  // namespace lacake
