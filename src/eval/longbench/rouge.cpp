#include "eval/longbench/rouge.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "eval/python_text.h"

namespace lacake::eval {
namespace {

using Sentence = std::vector<std::u32string>;

// A sentence of white space alone is one empty word, as " ".join([]).split(" ") is in Python.
std::vector<Sentence> sentences(std::u32string_view text) {
  std::vector<Sentence> result;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(U'.'), text.size());
    if (end > 0) {
      result.push_back(words(text.substr(0, end)));
      if (result.back().empty()) result.back().emplace_back();
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

std::set<std::u32string> vocabulary(const std::vector<Sentence>& sentences) {
  std::set<std::u32string> result;
  for (const Sentence& s : sentences) result.insert(s.begin(), s.end());
  return result;
}

// Adds the words of one longest common subsequence; which of several decides the score, so ties go as in the package.
void add_common(const Sentence& x, const Sentence& y, std::set<std::u32string>& common) {
  const std::size_t stride = y.size() + 1;
  std::vector<std::uint32_t> length((x.size() + 1) * stride, 0);
  for (std::size_t i = 1; i <= x.size(); ++i) {
    for (std::size_t j = 1; j <= y.size(); ++j) {
      length[i * stride + j] = x[i - 1] == y[j - 1]
                                   ? length[(i - 1) * stride + j - 1] + 1
                                   : std::max(length[(i - 1) * stride + j], length[i * stride + j - 1]);
    }
  }
  for (std::size_t i = x.size(), j = y.size(); i > 0 && j > 0;) {
    if (x[i - 1] == y[j - 1]) {
      common.insert(x[i - 1]);
      --i, --j;
    } else if (length[(i - 1) * stride + j] > length[i * stride + j - 1]) {
      --i;
    } else {
      --j;
    }
  }
}

}  // namespace

double rouge_l(std::u32string_view prediction, std::u32string_view reference) {
  const std::vector<Sentence> p = sentences(prediction), r = sentences(reference);
  if (p.empty() || r.empty()) return 0;
  std::set<std::u32string> common;
  for (const Sentence& of_reference : r) {
    for (const Sentence& of_prediction : p) add_common(of_reference, of_prediction, common);
  }
  const double recall = (double)common.size() / (double)vocabulary(r).size();
  const double precision = (double)common.size() / (double)vocabulary(p).size();
  return 2 * (precision * recall / (precision + recall + 1e-8));
}

}  // namespace lacake::eval
