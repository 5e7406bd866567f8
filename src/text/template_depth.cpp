#ifdef LACAKE_HAVE_JINJA

#include "text/template_depth.h"

#include <jinja/lexer.h>
#include <jinja/parser.h>

#include <algorithm>
#include <stdexcept>

namespace lacake {
namespace {

constexpr int kDeepest = 200;         // brackets in brackets, blocks in blocks
constexpr int kMostSigns = 1'000;     // "not", minus and the like between {{ and }}
constexpr int kLongest = 5'000;       // tokens between {{ and }}: each operator holds all that is left of it
constexpr int kMostBranches = 1'000;  // elif: each lies in the one before

using Token = jinja::token;

bool is_word(const Token& token, const char* word) { return token.t == Token::identifier && token.value == word; }

bool opens_block(const Token& word) {
  for (const char* name : {"if", "for", "macro", "call", "filter"}) {
    if (is_word(word, name)) return true;
  }
  return false;
}

void refuse() { throw std::runtime_error("is nested too deeply"); }

void check_depth(const std::vector<Token>& tokens) {
  int brackets = 0, blocks = 0, signs = 0, length = 0, branches = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token& token = tokens[i];
    switch (token.t) {
      case Token::open_statement:
        if (i + 1 < tokens.size()) {
          const Token& word = tokens[i + 1];
          if (opens_block(word)) ++blocks;
          if (word.t == Token::identifier && word.value.starts_with("end")) blocks = std::max(blocks - 1, 0);
          if (is_word(word, "elif")) ++branches;
        }
        [[fallthrough]];
      case Token::open_expression:
        brackets = signs = length = 0;
        break;
      case Token::open_paren:
      case Token::open_square_bracket:
      case Token::open_curly_bracket:
        ++brackets;
        break;
      case Token::close_paren:
      case Token::close_square_bracket:
      case Token::close_curly_bracket:
        --brackets;
        break;
      default:
        break;
    }
    const bool sign = token.t == Token::additive_binary_operator || token.t == Token::unary_operator ||
                      is_word(token, "not") || is_word(token, "else");
    signs = sign ? signs + 1 : signs;
    ++length;
    if (brackets > kDeepest || blocks > kDeepest || signs > kMostSigns || length > kLongest ||
        branches > kMostBranches) {
      refuse();
    }
  }
}

}  // namespace

jinja::program parse_template(const std::string& source) {
  const jinja::lexer_result read = jinja::lexer().tokenize(source);
  check_depth(read.tokens);
  return jinja::parse_from_tokens(read);
}

}  // namespace lacake

#endif
