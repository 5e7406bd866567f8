// What the parts of llama.cpp's `common` that are compiled in (cmake/jinja.cmake) need of its other files, common.cpp
// and log.cpp: those drag in models, contexts and threads. Written from their headers.
#ifdef LACAKE_HAVE_LLAMA_COMMON

#include <common.h>
#include <llama.h>
#include <log.h>

#include <limits>
#include <string>
#include <vector>

#include "text/llama_vocab.h"

// --- log.h: nothing is logged ---------------------------------------------------------------------------------------

int common_log_get_verbosity_thold() { return std::numeric_limits<int>::min(); }
common_log* common_log_main() { return nullptr; }
void common_log_add(common_log*, ggml_log_level, const char*, ...) {}

// --- common.h -------------------------------------------------------------------------------------------------------

std::string string_join(const std::vector<std::string>& values, const std::string& separator) {
  std::string out;
  for (std::size_t i = 0; i < values.size(); ++i) out += (i == 0 ? "" : separator) + values[i];
  return out;
}

std::vector<std::string> string_split(const std::string& text, const std::string& delimiter) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find(delimiter, begin)) != text.npos; begin = end + delimiter.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::string string_repeat(const std::string& text, std::size_t n) {
  std::string out;
  out.reserve(text.size() * n);
  while (n-- > 0) out += text;
  return out;
}

void string_replace_all(std::string& text, const std::string& search, const std::string& replacement) {
  if (search.empty()) return;
  std::size_t at = 0;
  while ((at = text.find(search, at)) != text.npos) {
    text.replace(at, search.size(), replacement);
    at += replacement.size();
  }
}

std::string common_token_to_piece(const llama_vocab* vocab, llama_token token, bool special) {
  using lacake::ControlTokens;
  return lacake::llama_piece(vocab, token, special ? ControlTokens::kShown : ControlTokens::kHidden);
}

std::vector<llama_token> common_tokenize(const llama_vocab* vocab, const std::string& text, bool add_special,
                                         bool parse_special) {
  return lacake::llama_tokens(vocab, text, {.parse = parse_special, .add = add_special});
}

#endif
