#pragma once

// Made by scripts/longbench-scores from LongBench's metrics.py.

namespace lacake::eval::cases {

struct Case {
  const char* answer;
  const char* reference;
  double score;
};

// clang-format off
constexpr Case k_qa_f1[] = {
    {"", "Paris", 0.0},
    {"Paris", "Paris", 1.0},
    {"The answer is Paris.", "paris", 0.5},
    {"a an the", "the", 0.0},
    {"the cat", "a Cat!", 1.0},
    {"anthem of the a-team", "anthem ateam", 0.8},
    {"New York, New York", "new york", 0.6666666666666666},
    {"no", "yes", 0.0},
    {"x", "", 0.0},
    {"Café  Déjà", "café déjà", 1.0},
    {"ÄRGER über ÉTÉ", "ärger ÜBER été", 1.0},
    {"1,000 men", "1000 men", 1.0},
    {"the\u00a0end", "end", 1.0},
    {"it's a trap", "its trap", 1.0},
    {"don't_stop", "dontstop", 1.0},
    {"thé a", "thé", 1.0},
    {"yes yes yes", "yes", 0.5},
};
constexpr Case k_qa_f1_zh[] = {
    {"", "南京大学", 0.0},
    {"南京大学。", "南京大学", 1.0},
    {"在南京师范大学举办", "南京大学", 0.6153846153846153},
    {"GPT-4 模型", "gpt 4模型", 1.0},
    {"没有", "有", 0.6666666666666666},
    {"２０１６年", "2016年", 0.28571428571428575},
    {"“是”，的！", "是的", 1.0},
    {"北京 上海", "上海北京", 1.0},
};
constexpr Case k_rouge[] = {
    {"", "a b c", 0.0},
    {"...", "a b", 0.0},
    {"the cat sat", "the cat sat", 0.999999995},
    {"the cat sat on the mat", "the mat sat on a cat", 0.5454545404958678},
    {"One. Two three. Four", "One two. Three four.", 0.24999999500000009},
    {"a b c d e", "e d c b a", 0.19999999500000015},
    {"a b a b", "a b", 0.999999995},
    {" . ", "x. ", 0.6666666622222223},
    {"w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 0.6153846106508877},
    {"x", "y", 0.0},
    {"U.S. economy grew 3.5 percent", "The U.S. economy grew by 3.5 percent in 2011.", 0.7777777730246914},
    {"line one\nline two.\n\n", "line two\nline one", 0.5714285665306124},
    {"b c a d", "a b c d x", 0.6666666617283951},
    {"Über", "über", 0.0},
};
constexpr Case k_rouge_zh[] = {
    {"", "会议总结", 0.0},
    {"会议讨论了预算。", "会议讨论预算", 0.8571428522448981},
    {"A组3.5分", "A组得3.5分。", 0.8333333284722222},
    {"大大小小", "小大", 0.4999999950000001},
};
constexpr Case k_count_score[] = {
    {"", "5", 0.0},
    {"5", "5", 1.0},
    {"There are 5 of 10", "5", 0.5},
    {"five", "5", 0.0},
    {"05", "5", 0.0},
    {"5, 5 and 5", "5", 1.0},
    {"15", "5", 0.0},
    {"１２ 12", "12", 0.5},
};
constexpr Case k_retrieval_score[] = {
    {"Paragraph 12", "Paragraph 12", 1.0},
    {"12", "Paragraph 12", 1.0},
    {"Paragraph 1 or Paragraph 12", "Paragraph 12", 0.5},
    {"", "Paragraph 3", 0.0},
    {"Paragraph 112", "Paragraph 12", 0.0},
    {"Paragraph three", "Paragraph 3", 0.0},
};
constexpr Case k_retrieval_zh_score[] = {
    {"段落12", "段落12", 1.0},
    {"段落1，段落12", "段落12", 0.5},
    {"", "段落3", 0.0},
    {"１", "段落1", 0.0},
};
constexpr Case k_code_similarity[] = {
    {"", "return x", 0.0},
    {"", "", 1.0},
    {"return x", "return x", 1.0},
    {"\n\nreturn y\nreturn x", "return x", 0.88},
    {"# c\nreturn x;", "return x", 0.94},
    {"// c\n", "x", 0.0},
    {"```python\nx = 1\n```", "x = 1", 1.0},
    {"    x = foo(a, b)", "    y = foo(b, a)", 0.82},
    {"abcd", "bcda", 0.75},
    {"private Thread currentThread;", "private volatile Thread currentThread;", 0.87},
    {"α = β", "β = α", 0.6},
    {"for (std::size_t index = 0; index < values.size(); ++index) sum += values[index] * weights[index] + offset; for (std::size_t index = 0; index < values.size(); ++index) sum += values[index] * weights[index] + offset; ", "for (std::size_t index = 0; index < values.size(); ++index) total += values[index] * weights[index] + offset; for (std::size_t index = 0; index < values.size(); ++index) total += values[index] * weights[index] + offset; ", 0.96},
    {"d::size_t index = 0; index < values.size(); ++index) total += values[index] * weights[index] + offset; for (std::size_t index = 0; index < valu", "for (std::size_t index = 0; index < values.size(); ++index) total += values[index] * weights[index] + offset; for (std::size_t index = 0; index < values.size(); ++index) total += values[index] * weights[index] + offset; ", 0.79},
};
constexpr const char* kClasses[] = {"Abbreviation", "Food", "Currency name", "Other entity", "Entity", "Other location", "Other", "Animal", "Ani", "mal"};
constexpr Case k_classification_score[] = {
    {"", "Food", 0.0},
    {"Food", "Food", 1.0},
    {"Food or Animal", "Food", 0.25},
    {"Type: Other location", "Other location", 1.0},
    {"Other location, Food", "Other location", 0.5},
    {"other location", "Other location", 0.0},
    {"Animal", "Animal", 0.5},
    {"Currency", "Currency name", 0.0},
    {"Other entity", "Other", 0.5},
};
// clang-format on

}  // namespace lacake::eval::cases
