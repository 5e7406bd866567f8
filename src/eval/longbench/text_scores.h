#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lacake::eval {

// LongBench's scores of an answer against one reference, 0 to 1; the same numbers as its metrics.py gives.
//
// The Chinese ones depart: metrics.py cuts text into words with jieba, whose dictionary of 350,000 words is not here.
// segments() cuts into single characters, runs of ASCII letters and digits staying whole. So words that share
// characters score something, and figures are comparable among themselves, not with published ones.

double qa_f1(std::string_view answer, std::string_view reference);
double qa_f1_zh(std::string_view answer, std::string_view reference);
double rouge(std::string_view answer, std::string_view reference);
double rouge_zh(std::string_view answer, std::string_view reference);

// Share of the answer's numbers that are the reference.
double count_score(std::string_view answer, std::string_view reference);
// The same for the number in "Paragraph 12" or "段落12".
double retrieval_score(std::string_view answer, std::string_view reference);
double retrieval_zh_score(std::string_view answer, std::string_view reference);
// The number behind the first `word` in a reference that has one behind it; "" where none has.
std::string number_after(std::string_view reference, std::string_view word);

// Similarity of the answer's first line that is no comment.
double code_similarity(std::string_view answer, std::string_view reference);

// 1 / the classes named in the answer, if the right one is among them; those that are a part of it do not count.
double classification_score(std::string_view answer, std::string_view reference,
                            const std::vector<std::string>& classes);

std::vector<std::u32string> segments(std::u32string_view chinese);

}  // namespace lacake::eval
