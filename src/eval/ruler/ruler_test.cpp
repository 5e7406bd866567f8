#include "eval/ruler/ruler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/test_session.h"
#include "eval/python_random.h"
#include "eval/ruler/tasks.h"
#include "eval/ruler/words.h"

namespace lacake::eval {
namespace {

RulerText made_for(std::size_t questions, const std::string& name, std::size_t size, std::size_t length = 8192) {
  const std::string essay = "One two three. Four five six! Seven (eight). Nine ten.";
  for (const RulerTask& task : ruler_tasks({.length = length, .haystack = essay, .questions = questions})) {
    if (task.name != name) continue;
    PythonRandom random(7);
    return task.make(random, size);
  }
  throw std::runtime_error(name);
}

// A text that has one question.
struct OneText {
  explicit OneText(RulerText text)
      : context(std::move(text.context)),
        question(text.questions.at(0).text),
        prefix(text.questions[0].prefix),
        answers(text.questions[0].answers) {
    EXPECT_EQ(text.questions.size(), 1u);
  }
  std::string context, question, prefix;
  std::vector<std::string> answers;
};

OneText made(const std::string& name, std::size_t size, std::size_t length = 8192) {
  return OneText(made_for(1, name, size, length));
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(RulerTasks, HideEveryNeedleAskForWhatTheyCountAndKnowTheAnswers) {
  const std::map<std::string, std::pair<std::size_t, std::size_t>> needles_and_answers = {
      {"niah_single_1", {1, 1}},   {"niah_single_2", {1, 1}},    {"niah_single_3", {1, 1}},
      {"niah_multikey_1", {4, 1}}, {"niah_multikey_2", {61, 1}}, {"niah_multikey_3", {61, 1}},
      {"niah_multivalue", {4, 4}}, {"niah_multiquery", {4, 4}}};
  for (const auto& [name, expected] : needles_and_answers) {
    const OneText text = made(name, 60);
    EXPECT_EQ(count(text.context, "One of the special magic "), expected.first) << name;
    ASSERT_EQ(text.answers.size(), expected.second) << name;
    for (const std::string& answer : text.answers) EXPECT_EQ(count(text.context, " is: " + answer + "."), 1u) << name;
    EXPECT_EQ(count(text.question, "\nWhat is the special magic"), expected.second == 1) << name;
    EXPECT_EQ(ruler_question(name, text.context + text.question), text.context.size()) << name;
  }
}

TEST(RulerTasks, AskEachOfSeveralQuestionsAboutSomethingElseInTheText) {
  for (const char* name : {"niah_single_1", "niah_multikey_2", "niah_multivalue", "niah_multiquery", "vt"}) {
    const RulerText text = made_for(10, name, 80);
    ASSERT_EQ(text.questions.size(), 10u) << name;
    std::set<std::string> asked;
    std::set<std::vector<std::string>> answers;
    for (const RulerQuestion& question : text.questions) {
      asked.insert(question.text);
      answers.insert(question.answers);
      for (const std::string& answer : question.answers) {
        EXPECT_EQ(count(text.context, " is: " + answer + ".") + (count(text.context, "VAR " + answer + " =") > 0), 1u)
            << name;
      }
    }
    EXPECT_EQ(asked.size(), 10u) << name;
    EXPECT_EQ(answers.size(), 10u) << name;
  }
  EXPECT_TRUE(made_for(2, "niah_single_1", 9).context.starts_with("Some special magic numbers are hidden"));
  EXPECT_EQ(made_for(10, "fwe", 1000).questions.size(), 1u);
}

TEST(RulerTasks, SpeakOfOneNeedleInTheSingular) {
  const OneText text = made("niah_single_1", 5);
  EXPECT_TRUE(text.context.starts_with(
      "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the "
      "number afterwards.\n"));
  EXPECT_TRUE(text.prefix.ends_with(" mentioned in the provided text is"));
  EXPECT_EQ(text.answers[0].size(), 7u);
  const std::string uuid = made("niah_single_3", 50).answers[0];
  EXPECT_EQ(uuid.size(), 36u);
  EXPECT_EQ(uuid[14], '4');
  EXPECT_TRUE(contains(made("niah_multiquery", 50).prefix, ", and "));
}

TEST(RulerTasks, ChainVariablesInOrderBehindASolvedExample) {
  const OneText text = made("vt", 12);
  ASSERT_EQ(text.answers.size(), 5u);
  std::size_t at = 0;
  for (const std::string& name : text.answers) {
    const std::size_t found = text.context.find("VAR " + name + " = ", at);
    ASSERT_NE(found, std::string::npos);
    at = found;
  }
  EXPECT_EQ(count(text.context, "Memorize and track"), 2u);
  EXPECT_EQ(ruler_question("vt", text.context + text.question), text.context.size());
}

TEST(RulerTasks, RepeatCommonWordsMoreOftenThanOthers) {
  for (const std::size_t length : {std::size_t{2048}, std::size_t{8192}}) {
    const OneText text = made("cwe", 40, length);
    const std::string list = text.context.substr(text.context.rfind("Below is")) + " ";
    ASSERT_EQ(text.answers.size(), 10u);
    for (const std::string& word : text.answers)
      EXPECT_EQ(count(list, ". " + word + " "), length < 4096 ? 6u : 30u) << word;
    EXPECT_TRUE(contains(list, length < 4096 ? " 90. " : " 390. "));
  }
  EXPECT_TRUE(contains(made("cwe", 3000).context, "-"));
}

TEST(RulerTasks, RankCodedWordsByAZetaDistribution) {
  const OneText text = made("fwe", 1000);
  const std::string list = text.context + " ";
  // 1000 * 6 / (pi * k)^2
  EXPECT_EQ(count(list, " ..."), 607u);
  EXPECT_EQ(count(list, " " + text.answers[0]), 151u);
  EXPECT_EQ(count(list, " " + text.answers[1]), 67u);
  EXPECT_EQ(count(list, " " + text.answers[2]), 37u);
}

TEST(RulerQa, ReadsBothFormsAndKeepsWhatAnswers) {
  const RulerQa squad = parse_ruler_qa("s.json", R"({"data": [{"paragraphs": [
      {"context": "B.", "qas": [{"question": "b?", "answers": [{"text": "B"}, {"text": "bee"}], "is_impossible": false},
                                {"question": "none?", "answers": [], "is_impossible": true}]},
      {"context": "A.", "qas": []}]}]})");
  EXPECT_EQ(squad.task, "qa_1");
  EXPECT_EQ(squad.documents, (std::vector<std::string>{"A.", "B."}));
  ASSERT_EQ(squad.questions.size(), 1u);
  EXPECT_EQ(squad.questions[0].documents, std::vector<std::size_t>{1});
  EXPECT_EQ(squad.questions[0].nearby, std::vector<std::size_t>{0});
  const RulerQa hotpot = parse_ruler_qa(
      "h.json", R"([{"question": "q?", "answer": "yes", "context": [["T", ["One. ", "Two."]], ["U", ["Three."]]]}])");
  EXPECT_EQ(hotpot.task, "qa_2");
  EXPECT_EQ(hotpot.documents[0], "T\nOne. Two.");
  PythonRandom random(1);
  const OneText text(ruler_tasks({.length = 512, .haystack = "", .qa = &hotpot}).back().make(random, 3));
  EXPECT_EQ(count(text.context, "Document "), 3u);
  for (const std::string& document : hotpot.documents) EXPECT_TRUE(contains(text.context, ":\n" + document));
  EXPECT_TRUE(
      contains(refusal(Error::Kind::kInput, [] { parse_ruler_qa("x.json", "{"); }), "x.json: expected questions"));
  EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [] { parse_ruler_qa("x.json", "{}"); }), "another form"));
  EXPECT_TRUE(
      contains(refusal(Error::Kind::kInput, [] { parse_ruler_qa("x.json", "[]"); }), "none that has an answer"));
}

class RulerSamples : public testing::Test {
 protected:
  std::size_t tokens(const Sample& s) const { return loaded_.model.tokenize(prompt_text(s), true).size() + s.most_new; }
  Loaded loaded_{small()};
};

TEST_F(RulerSamples, FillTheLengthAreNeverLongerAndAreTheSameForTheSameSeed) {
  const RulerOptions options{.lengths = {3000}, .tasks = {"niah_single_1", "niah_multikey_2", "fwe"}, .samples = 3};
  const auto samples = ruler_samples(loaded_.model, options);
  ASSERT_EQ(samples.size(), 9u);
  for (const Sample& s : samples) {
    EXPECT_LE(tokens(s), 3000u) << s.id;
    EXPECT_GT(tokens(s), 2600u) << s.id;
  }
  EXPECT_EQ(samples[0].tags, (nlohmann::json{{"task", "niah_single_1"}, {"length", 3000}}));
  RulerOptions other = options;
  other.seed = 2;
  other.tasks = {"niah_multikey_2"};
  const auto again = ruler_samples(loaded_.model, other);
  EXPECT_EQ(again[0].id, "niah_multikey_2/3000/2");
  EXPECT_EQ(again[0].context + again[0].question, samples[5].context + samples[5].question);
  EXPECT_NE(again[1].context, again[0].context);
}

TEST_F(RulerSamples, NeedTheirMaterialWhenAskedForAndRoom) {
  const auto says = [&](const RulerOptions& options) {
    return refusal(Error::Kind::kUsage, [&] { ruler_samples(loaded_.model, options); });
  };
  EXPECT_TRUE(
      contains(says({.lengths = {3000}, .tasks = {"niah_single_2"}}), "niah_single_2: expected a text as haystack"));
  EXPECT_TRUE(contains(says({.lengths = {3000}, .tasks = {"qa"}}), "qa FILE"));
  EXPECT_TRUE(contains(says({.lengths = {200}, .tasks = {"niah_single_1"}}), "for niah_single_1"));
}

// A line of a file that RULER made.
std::string line_of_qa(const std::string& context) {
  const std::string question = "\n\nAnswer the question based on the given documents. Only. \n\nQuestion: who?";
  return nlohmann::json{{"input", context + question}, {"outputs", {"Ann", "Bob"}}, {"answer_prefix", " Answer:"}}
             .dump() +
         "\n";
}

std::vector<std::string> ids_of(const RulerData& data) {
  std::vector<std::string> ids;
  for (const Sample& sample : data.samples) ids.push_back(sample.id);
  return ids;
}

TEST(RulerFiles, KeepQuestionPrefixAndMetric) {
  const DataFile file{"qa_1/validation.jsonl",
                      line_of_qa("Docs.") + "{\"input\": \"no question\", \"outputs\": [\"x\"]}\n"};
  const RulerData data = ruler_data({file}, {}, {}, BadLine::kSkip);
  ASSERT_EQ(data.samples.size(), 1u);
  EXPECT_EQ(data.skipped.size(), 1u);
  EXPECT_EQ(data.samples[0].context, "Docs.");
  EXPECT_TRUE(data.samples[0].question.ends_with("Question: who? Answer:"));
  EXPECT_EQ(data.samples[0].score("it is BOB"), 1);
  const auto says = [&](const DataFile& wrong, const std::vector<std::string>& tasks) {
    return refusal(Error::Kind::kInput, [&] { ruler_data({wrong}, tasks, {}, BadLine::kStop); });
  };
  EXPECT_TRUE(contains(says(file, {}), ":2: input: expected"));
  const DataFile nameless{"x.jsonl", "{}\n"};
  EXPECT_TRUE(contains(says(nameless, {}), "named after its task"));
  EXPECT_TRUE(contains(says(nameless, {"vt", "qa"}), "named after its task"));
}

TEST(RulerFiles, OfOneTaskHaveSamplesOfTheirOwn) {
  const std::vector<DataFile> files = {{"a/qa_1/validation.jsonl", line_of_qa("One.") + line_of_qa("Two.")},
                                       {"b/qa_1/validation.jsonl", line_of_qa("Three.")},
                                       {"qa_2.jsonl", line_of_qa("Four.")}};
  EXPECT_EQ(ids_of(ruler_data(files, {}, {}, BadLine::kStop)),
            (std::vector<std::string>{"qa_1/0", "qa_1/1", "qa_1/2/0", "qa_2/0"}));
  EXPECT_EQ(ids_of(ruler_data(files, {"qa"}, {}, BadLine::kStop)),
            (std::vector<std::string>{"qa/0", "qa/1", "qa/2/0", "qa/3/0"}));
}

TEST(RulerFiles, OfTasksThatNobodyAskedForAreLeftOut) {
  const std::vector<DataFile> files = {{"qa_1.jsonl", line_of_qa("One.")}, {"vt.jsonl", "{}"}};
  for (const std::vector<std::string>& tasks : {std::vector<std::string>{"qa"}, {"cwe", "qa"}}) {
    EXPECT_EQ(ruler_data(files, tasks, {}, BadLine::kStop).samples.size(), 1u);
  }
  const DataFile nameless{"x.jsonl", line_of_qa("One.")};
  EXPECT_EQ(ids_of(ruler_data({nameless}, {"qa"}, {}, BadLine::kStop)), std::vector<std::string>{"qa/0"});
}

// RULER's string_match_all and _part, by hand.
TEST(RulerScores, CountReferencesFoundOrAskForAny) {
  EXPECT_DOUBLE_EQ(string_match_all("1 and 22", {"1", "22", "3"}), 2.0 / 3);
  EXPECT_EQ(string_match_all("", {"1"}), 0);
  EXPECT_EQ(string_match_all("PARIS", {"paris"}), 1);
  EXPECT_EQ(string_match_part("Bob", {"Ann", "bob"}), 1);
  EXPECT_EQ(string_match_part("", {"Ann"}), 0);
}

TEST(RulerWords, AreEachThereOnce) {
  for (const auto* words : {&nouns(), &adjectives()}) {
    EXPECT_EQ(std::set<std::string>(words->begin(), words->end()).size(), words->size());
  }
  EXPECT_GT(nouns().size() + adjectives().size(), 1200u);
}

TEST(PythonRandom, ShufflesAsPythonDoesAndDrawsEachOnce) {
  // python3 -c "import random; x = list(range(8)); random.Random(3).shuffle(x); print(x)"
  std::vector<int> items = {0, 1, 2, 3, 4, 5, 6, 7};
  PythonRandom random(3);
  random.shuffle(items);
  EXPECT_EQ(items, (std::vector<int>{0, 5, 7, 2, 1, 6, 4, 3}));
  const auto drawn = random.sample(100, 100);
  EXPECT_EQ(std::set<std::size_t>(drawn.begin(), drawn.end()).size(), 100u);
  EXPECT_LT(*std::max_element(drawn.begin(), drawn.end()), 100u);
}

}  // namespace
}  // namespace lacake::eval
