#include "eval/chat_frame.h"

#include <gtest/gtest.h>

#include "engine/test_session.h"

namespace lacake::eval {
namespace {

TEST(ChatFrame, IsNothingWithoutATemplate) {
  const Loaded loaded(small());
  const ChatFrame frame(loaded.model);
  EXPECT_TRUE(frame.empty());
  Sample sample{.context = " c", .question = "q "};
  frame.put_around(sample, "a");
  EXPECT_EQ(sample.context + "|" + sample.question, " c|q a");
  EXPECT_EQ(sample.template_before, 0u);
  EXPECT_EQ(sample.template_after, 0u);
}

TEST(ChatFrame, GoesAroundContextAndQuestionWithTheAnswersBeginningBehindIt) {
  ChatFrame frame;
  frame.before = "<u>";
  frame.after = "</u><a>";
  Sample sample{.context = " c", .question = "q "}, trimmed = sample;
  frame.put_around(sample, " is");
  EXPECT_EQ(sample.context + "|" + sample.question, "<u> c|q </u><a> is");
  EXPECT_EQ(prompt_text(sample).from(3).text, " cq </u><a> is");
  EXPECT_EQ(prompt_text(sample).letters, (std::vector<PromptText::Range>{{3, 7}}));
  frame.trims = true;
  frame.put_around(trimmed);
  EXPECT_EQ(trimmed.context + "|" + trimmed.question, "<u>c|q</u><a>");
}

}  // namespace
}  // namespace lacake::eval
