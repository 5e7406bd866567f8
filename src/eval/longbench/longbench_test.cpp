#include "eval/longbench/longbench.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/test_session.h"

namespace lacake::eval {
namespace {

class LongBench : public testing::Test {
 protected:
  static DataFile file(const std::string& lines) { return {"samples.jsonl", lines}; }
  static std::string line(const std::string& dataset, const std::string& answer, const std::string& id,
                          const std::string& context = "Some text.") {
    return nlohmann::json{{"input", "Which?"},
                          {"context", context},
                          {"answers", {answer}},
                          {"length", 5000},
                          {"dataset", dataset},
                          {"language", "en"},
                          {"all_classes", {"Food", "Animal"}},
                          {"_id", id}}
               .dump() +
           "\n";
  }
  Loaded loaded_{small()};
};

TEST_F(LongBench, HasItsTasksEachWithOneContextBeforeTheInput) {
  ASSERT_EQ(longbench_tasks().size(), 21u);
  std::set<std::string_view> names;
  std::size_t raw = 0;
  for (const LongBenchTask& task : longbench_tasks()) {
    names.insert(task.name);
    raw += !task.chat;
    const std::size_t at = task.prompt.find("{context}");
    ASSERT_NE(at, std::string_view::npos) << task.name;
    EXPECT_EQ(task.prompt.find("{context}", at + 1), std::string_view::npos);
    EXPECT_LT(task.prompt.find("{input}") + 1, task.prompt.size() + 1) << task.name;
    EXPECT_TRUE(task.prompt.find("{input}") == std::string_view::npos || task.prompt.find("{input}") > at);
  }
  EXPECT_EQ(names.size(), 21u);
  EXPECT_EQ(raw, 6u);
}

TEST_F(LongBench, SamplesHaveTheTasksPromptTheBestReferenceAndTheFirstLineAlone) {
  const auto read = longbench_samples(
      loaded_.model, {file(line("trec", "Food", "a") + line("hotpotqa_e", "the Cat", "b") + line("lcc", "x", "c"))},
      {.tasks = {"trec", "hotpotqa"}});
  ASSERT_EQ(read.samples.size(), 2u);
  const Sample& trec = read.samples[0];
  EXPECT_EQ(trec.id, "trec/a");
  EXPECT_EQ(trec.context + trec.question,
            "Please determine the type of the question below. Here are some examples of questions.\n\nSome "
            "text.\nWhich?");
  EXPECT_EQ(trec.question, "\nWhich?");
  EXPECT_TRUE(trec.one_line);
  EXPECT_EQ(trec.most_new, 64u);
  EXPECT_EQ(trec.score("\n\nFood\nAnimal"), 1);
  EXPECT_EQ(trec.score("Food Animal"), 0.5);
  EXPECT_EQ(read.samples[1].tags, (nlohmann::json{{"task", "hotpotqa"}, {"words", "4-8k"}}));
  EXPECT_EQ(read.samples[1].score("a cat"), 1);
}

TEST_F(LongBench, TooLongAPromptLosesItsMiddleBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "字é" + std::to_string(i % 10);
  const std::string question = "\nWhich?";
  const std::size_t all = loaded_.model.tokenize(text + question, false, true).size();
  const Halves whole = cut_middle(loaded_.model, text + question, question.size(), all);
  EXPECT_EQ(whole.context + whole.question, text + question);
  for (std::size_t most = 40; most < 52; ++most) {
    const Halves cut = cut_middle(loaded_.model, text + question, question.size(), most);
    EXPECT_EQ(cut.question, question);
    EXPECT_TRUE(text.starts_with(cut.context.substr(0, 6)));
    EXPECT_TRUE(text.ends_with(cut.context.substr(cut.context.size() - 1)));
    EXPECT_LE(loaded_.model.tokenize(cut.context + cut.question, false, true).size(), most + 2);
    EXPECT_GE(loaded_.model.tokenize(cut.context + cut.question, false, true).size(), most - 6);
    EXPECT_NO_THROW((void)nlohmann::json(cut.context).dump());  // whole characters
  }
  // Where the cut goes through the question, what is left of it is asked.
  const Halves short_one = cut_middle(loaded_.model, text + question, question.size(), 6);
  EXPECT_TRUE(question.ends_with(short_one.question));
}

TEST_F(LongBench, LimitCountsEachTask) {
  const auto read = longbench_samples(
      loaded_.model,
      {file(line("lcc", "x", "1") + line("lcc", "x", "2") + line("trec", "Food", "3") + line("lcc", "x", "4"))},
      {.limit = 1});
  ASSERT_EQ(read.samples.size(), 2u);
  EXPECT_EQ(read.samples[1].id, "trec/3");
}

TEST_F(LongBench, ABrokenLineIsNamedAndLeftOutWhereAsked) {
  const std::string good = line("trec", "Food", "1");
  const auto refused = [&](const std::string& bad) {
    const DataFile data = file(good + bad + good.substr(0, 0) + line("trec", "Food", "9"));
    const auto skipped = longbench_samples(loaded_.model, {data}, {.bad_line = BadLine::kSkip});
    EXPECT_EQ(skipped.samples.size(), 2u) << bad;
    EXPECT_EQ(skipped.skipped.size(), 1u) << bad;
    return refusal(Error::Kind::kInput, [&] { longbench_samples(loaded_.model, {data}, {}); });
  };
  EXPECT_TRUE(contains(refused("{\"input\": \n"), ":2: not JSON"));
  EXPECT_TRUE(contains(refused(line("treck", "Food", "2")), ":2: dataset: expected narrativeqa, "));
  EXPECT_TRUE(
      contains(refused("{\"dataset\": \"trec\", \"context\": 3}\n"), ":2: context: expected a text, found number"));
  EXPECT_TRUE(contains(refused("{\"dataset\": \"trec\", \"context\": \"\", \"answers\": []}\n"),
                       ":2: answers: expected a list of texts"));
  EXPECT_TRUE(contains(refused(line("passage_retrieval_en", "12", "2")), "expected \"Paragraph 1\" or the like"));
  EXPECT_TRUE(contains(refused(line("trec", "Food", "1")), "found trec/1 again"));
}

}  // namespace
}  // namespace lacake::eval
