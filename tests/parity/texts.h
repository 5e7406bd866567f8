#pragma once

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "golden/golden_files.h"
#include "lacake/model.h"
#include "tools/model_files.h"

namespace lacake {

// The opening of WikiText-2's test set (4,098 tokens), then an item of LongBench's multi_news (3,090), as the golden
// files have them.
inline std::vector<Token> wikitext_and_news() {
  std::vector<Token> tokens;
  for (const auto& [file, ids] : {std::pair{wikitext_file(), "ids"}, std::pair{multinews_file(), "prompt_ids"}}) {
    const golden::Archive archive(file);
    tokens.insert(tokens.end(), archive.i32(ids).begin(), archive.i32(ids).end());
  }
  return tokens;
}

// The same as text.
inline std::string wikitext_and_news_text() {
  const Model model(quantised_model());
  std::string text;
  for (const Token token : wikitext_and_news()) text += model.piece(token);
  return text;
}

inline std::vector<Token> text_tokens(const Model& model, const std::string& path) {
  std::ifstream in(path);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  return model.tokenize(text, /*parse_special*/ false, /*add_special*/ false);
}

}  // namespace lacake
