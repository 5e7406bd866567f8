#include "eval/longbench/text_scores.h"

#include <gtest/gtest.h>

#include <span>

#include "eval/longbench/text_scores_cases.h"
#include "eval/python_text.h"

namespace lacake::eval {
namespace {

template <typename Score>
void expect_same(std::span<const cases::Case> table, Score score) {
  for (const cases::Case& c : table) {
    EXPECT_NEAR(score(c.answer, c.reference), c.score, 1e-12) << "\"" << c.answer << "\" for \"" << c.reference << "\"";
  }
}

TEST(TextScores, AreThoseOfLongBenchsOwnCode) {
  expect_same(cases::k_qa_f1, qa_f1);
  expect_same(cases::k_qa_f1_zh, qa_f1_zh);
  expect_same(cases::k_rouge, rouge);
  expect_same(cases::k_rouge_zh, rouge_zh);
  expect_same(cases::k_count_score, count_score);
  expect_same(cases::k_retrieval_score, retrieval_score);
  expect_same(cases::k_retrieval_zh_score, retrieval_zh_score);
  expect_same(cases::k_code_similarity, code_similarity);
  const std::vector<std::string> classes(std::begin(cases::kClasses), std::end(cases::kClasses));
  expect_same(cases::k_classification_score, [&](const char* answer, const char* reference) {
    return classification_score(answer, reference, classes);
  });
}

TEST(TextScores, TakeHalfACharacterAsOneThatIsUnknown) {
  EXPECT_EQ(qa_f1_zh("\xe6\x98", "是"), 0);
  EXPECT_EQ(characters("a\xe6\x98"), U"a\ufffd");
}

TEST(TextScores, CutChineseIntoCharactersAndKeepLatinRunsWhole) {
  EXPECT_EQ(segments(U"用GPT4写。"), (std::vector<std::u32string>{U"用", U"GPT4", U"写", U"。"}));
}

TEST(NumberAfter, IsTheFirstThatHasOne) {
  EXPECT_EQ(number_after("Paragraph x, Paragraph 12", "Paragraph "), "12");
  EXPECT_EQ(number_after("段落3", "段落"), "3");
  EXPECT_EQ(number_after("12", "Paragraph "), "");
}

}  // namespace
}  // namespace lacake::eval
