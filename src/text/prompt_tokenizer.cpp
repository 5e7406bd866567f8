#include "text/prompt_tokenizer.h"

#include <llama.h>

#include <algorithm>
#include <cctype>
#include <tuple>

#include "text/vocabulary.h"

namespace lacake {
namespace {

bool looks_special(std::string_view text) {
  constexpr std::string_view kWide = "\uFF5C";  // DeepSeek's <｜this｜>
  const auto between = [&](std::string_view bar) {
    return text.size() > 2 + 2 * bar.size() && text.starts_with("<") && text.ends_with(">") &&
           text.substr(1).starts_with(bar) && text.substr(0, text.size() - 1).ends_with(bar);
  };
  return between("|") || between(kWide);
}

unsigned char first_byte(std::string_view text) { return (unsigned char)text[0]; }

bool is_space(char c) { return std::isspace((unsigned char)c) != 0; }

// Whether a range of bytes has letters in it. Asked for ascending ranges, each time from where the last answer was.
class Letters {
 public:
  explicit Letters(const std::vector<PromptText::Range>& ranges) : next_(ranges.begin()), end_(ranges.end()) {}
  bool touch(std::size_t begin, std::size_t end) {
    while (next_ != end_ && next_->end <= begin) ++next_;
    return next_ != end_ && next_->begin < end;
  }

 private:
  std::vector<PromptText::Range>::const_iterator next_, end_;
};

}  // namespace

PromptTokenizer::PromptTokenizer(const Vocabulary& vocabulary, std::string_view chat_template)
    : vocabulary_(vocabulary) {
  const llama_vocab* vocab = vocabulary.handle();
  for (Token token = 0; token < vocabulary.n_tokens(); ++token) {
    const int attributes = llama_vocab_get_attr(vocab, token);
    const bool control = (attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) != 0;
    const bool added = (attributes & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0;
    if (!control && !added) continue;
    std::string text = llama_vocab_get_text(vocab, token);
    const bool blank = std::all_of(text.begin(), text.end(), is_space);
    if (text.empty() || blank) continue;
    if (!control && !looks_special(text) && chat_template.find(text) == chat_template.npos) continue;
    specials_.push_back({std::move(text), token, !control, (attributes & LLAMA_TOKEN_ATTR_LSTRIP) != 0,
                         (attributes & LLAMA_TOKEN_ATTR_RSTRIP) != 0});
  }
  std::sort(specials_.begin(), specials_.end(), [](const Special& a, const Special& b) {
    return std::tuple(first_byte(a.text), b.text.size(), a.token) <
           std::tuple(first_byte(b.text), a.text.size(), b.token);
  });
  of_byte_.fill({0, 0});
  for (std::size_t i = 0; i < specials_.size(); ++i) {
    auto& [begin, end] = of_byte_[first_byte(specials_[i].text)];
    if (begin == end) begin = i;
    end = i + 1;
  }
}

const PromptTokenizer::Special* PromptTokenizer::at(std::string_view text, std::size_t offset) const {
  const std::string_view rest = text.substr(offset);
  const auto [begin, end] = of_byte_[first_byte(rest)];
  for (std::size_t i = begin; i < end; ++i) {
    if (rest.starts_with(specials_[i].text)) return &specials_[i];
  }
  return nullptr;
}

std::vector<Token> PromptTokenizer::tokenize(const PromptText& text, bool add_special) const {
  const std::string_view all = text.text;
  std::vector<Found> own;  // special tokens that the template wrote
  bool touched = false;    // letters spell one, or a part of one
  Letters letters(text.letters);
  for (std::size_t i = 0; i < all.size();) {
    const Special* special = at(all, i);
    const bool touches = special != nullptr && letters.touch(i, i + special->text.size());
    touched = touched || touches;
    if (special != nullptr && !touches) {
      own.push_back({i, i + special->text.size(), special});
      i += special->text.size();
    } else {
      ++i;
    }
  }
  if (!touched) return vocabulary_.tokenize(all, {.parse = true, .add = add_special});

  std::vector<Token> tokens;
  std::size_t done = 0;
  for (const Found& found : own) {
    std::size_t end = found.begin;
    while (found.special->strips_left && end > done && is_space(all[end - 1])) --end;
    append_letters(all.substr(done, end - done), tokens);
    tokens.push_back(found.special->token);
    done = found.end;
    while (found.special->strips_right && done < all.size() && is_space(all[done])) ++done;
  }
  append_letters(all.substr(done), tokens);
  return add_special ? vocabulary_.with_added(std::move(tokens)) : tokens;
}

// Text without a special token: what libllama would take for one is cut in two behind its first character.
void PromptTokenizer::append_letters(std::string_view text, std::vector<Token>& tokens) const {
  std::size_t begin = 0;
  const auto append_until = [&](std::size_t end) {
    const std::string_view piece = text.substr(begin, end - begin);
    const std::vector<Token> added = begin == 0 ? vocabulary_.tokenize(piece) : continued(piece);
    tokens.insert(tokens.end(), added.begin(), added.end());
    begin = end;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const Special* special = at(text, i);
    if (special == nullptr || !special->cut) continue;
    std::size_t inside = i + 1;
    while (inside < text.size() && ((unsigned char)text[inside] & 0xC0) == 0x80) ++inside;
    append_until(inside);
  }
  if (begin < text.size()) append_until(text.size());
}

// The tokens of a text that has other text in front of it. Tokenizers of SentencePiece's kind put a space in front of
// every text; behind a line break they have put it there already.
std::vector<Token> PromptTokenizer::continued(std::string_view text) const {
  const std::vector<Token> alone = vocabulary_.tokenize(text);
  if (llama_vocab_type(vocabulary_.handle()) != LLAMA_VOCAB_TYPE_SPM) return alone;
  const std::vector<Token> line_break = vocabulary_.tokenize("\n");
  const std::vector<Token> both = vocabulary_.tokenize("\n" + std::string(text));
  if (!std::equal(line_break.begin(), line_break.end(), both.begin(),
                  both.begin() + (std::ptrdiff_t)std::min(line_break.size(), both.size()))) {
    return alone;
  }
  return {both.begin() + (std::ptrdiff_t)line_break.size(), both.end()};
}

}  // namespace lacake
