#include "eval/longbench/text_scores.h"

#include <algorithm>
#include <map>

#include "eval/longbench/rouge.h"
#include "eval/longbench/sequence_ratio.h"
#include "eval/python_text.h"

namespace lacake::eval {
namespace {

using Words = std::vector<std::u32string>;

double f1(const Words& answer, const Words& reference) {
  std::map<std::u32string, std::size_t> left;
  for (const auto& word : reference) ++left[word];
  std::size_t same = 0;
  for (const auto& word : answer) {
    const auto found = left.find(word);
    if (found == left.end() || found->second == 0) continue;
    --found->second;
    ++same;
  }
  if (same == 0) return 0;
  const double precision = (double)same / (double)answer.size(), recall = (double)same / (double)reference.size();
  return 2 * precision * recall / (precision + recall);
}

// re.sub(r"\b(a|an|the)\b", " ", text) of lower-case text.
std::u32string without_articles(std::u32string_view text) {
  std::u32string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i;
    if (!is_word(text[i])) {
      result += text[i++];
      continue;
    }
    while (i < text.size() && is_word(text[i])) ++i;
    const std::u32string_view word = text.substr(begin, i - begin);
    result += word == U"a" || word == U"an" || word == U"the" ? std::u32string_view(U" ") : word;
  }
  return result;
}

Words english(std::string_view text) {
  std::u32string s = lower(characters(text));
  std::erase_if(s, is_ascii_punctuation);
  return words(without_articles(s));
}

Words chinese(std::string_view text) {
  constexpr std::u32string_view kPunctuation =
      U"！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝"
      U"〞〟〰〾〿–—‘’‛“”„‟…‧﹏.";
  Words result;
  for (const std::u32string& segment : segments(characters(text))) {
    std::u32string s = lower(segment);
    std::erase_if(s, [&](char32_t c) {
      return is_ascii_punctuation(c) || is_space(c) || kPunctuation.find(c) != std::u32string_view::npos;
    });
    if (!s.empty()) result.push_back(std::move(s));
  }
  return result;
}

std::u32string spaced(std::string_view text) {
  std::u32string result;
  for (const std::u32string& segment : segments(characters(text))) result += segment + U" ";
  if (!result.empty()) result.pop_back();
  return result;
}

double share_of_numbers(std::string_view answer, std::u32string_view right) {
  const Words all = numbers(characters(answer));
  const auto n = std::count(all.begin(), all.end(), right);
  return all.empty() ? 0 : (double)n / (double)all.size();
}

}  // namespace

std::vector<std::u32string> segments(std::u32string_view text) {
  const auto latin = [](char32_t c) { return c < 0x80 && is_word(c) && c != '_'; };
  Words result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = i++;
    while (latin(text[begin]) && i < text.size() && latin(text[i])) ++i;
    result.emplace_back(text.substr(begin, i - begin));
  }
  return result;
}

double qa_f1(std::string_view answer, std::string_view reference) { return f1(english(answer), english(reference)); }

double qa_f1_zh(std::string_view answer, std::string_view reference) { return f1(chinese(answer), chinese(reference)); }

double rouge(std::string_view answer, std::string_view reference) {
  return rouge_l(characters(answer), characters(reference));
}

double rouge_zh(std::string_view answer, std::string_view reference) {
  return rouge_l(spaced(answer), spaced(reference));
}

double count_score(std::string_view answer, std::string_view reference) {
  return share_of_numbers(answer, characters(reference));
}

std::string number_after(std::string_view reference, std::string_view word) {
  for (std::size_t at = reference.find(word); at != std::string_view::npos; at = reference.find(word, at + 1)) {
    const std::size_t begin = at + word.size();
    std::size_t end = begin;
    while (end < reference.size() && reference[end] >= '0' && reference[end] <= '9') ++end;
    if (end > begin) return std::string(reference.substr(begin, end - begin));
  }
  return "";
}

double retrieval_score(std::string_view answer, std::string_view reference) {
  return share_of_numbers(answer, characters(number_after(reference, "Paragraph ")));
}

double retrieval_zh_score(std::string_view answer, std::string_view reference) {
  return share_of_numbers(answer, characters(number_after(reference, "段落")));
}

double code_similarity(std::string_view answer, std::string_view reference) {
  std::string_view line;
  for (std::string_view rest = answer.substr(std::min(answer.find_first_not_of('\n'), answer.size())); !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view next = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (next.find_first_of("`#") != std::string_view::npos || next.find("//") != std::string_view::npos) continue;
    line = next;
    break;
  }
  return fuzz_ratio(characters(line), characters(reference)) / 100.0;
}

double classification_score(std::string_view answer, std::string_view reference,
                            const std::vector<std::string>& classes) {
  std::vector<std::string> named;
  for (const std::string& name : classes) {
    if (answer.find(name) != std::string_view::npos) named.push_back(name);
  }
  // As metrics.py does it: what is removed while the list is walked through makes it skip the next.
  for (std::size_t i = 0; i < named.size(); ++i) {
    const std::string name = named[i];
    if (name != reference && reference.find(name) != std::string_view::npos) {
      named.erase(std::find(named.begin(), named.end(), name));
    }
  }
  const bool right = std::find(named.begin(), named.end(), reference) != named.end();
  return right ? 1.0 / (double)named.size() : 0;
}

}  // namespace lacake::eval
