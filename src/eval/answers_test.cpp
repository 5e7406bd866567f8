#include "eval/answers.h"

#include <gtest/gtest.h>

#include "engine/test_session.h"
#include "eval/test_control.h"
#include "lacake/policy_author.h"
#include "tools/temporary_folder.h"

namespace lacake::eval {
namespace {

class AnswersOfTinyModel : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 3; ++i) {
      Sample s{.id = "s" + std::to_string(i), .most_new = 6, .tags = {{"length", 70 + i}}, .references = {"x"}};
      for (int k = 0; k < 70; ++k) s.context += (char)('a' + (k * 7 + k / 9 + i) % 26);
      s.question = "what is it";
      s.score = [](std::string_view answer) { return answer.empty() ? 0.0 : 1.0; };
      samples_.push_back(s);
    }
  }

  std::vector<Configuration> grid() const {
    return make_grid(std::vector<std::string>{"full", "streaming-llm", "lacache:span=2,sinks=2", "cake:window=8"},
                     std::vector<std::string>{"24", "32"});
  }
  Results folder(const std::string& name) const { return Results(folder_.path(name), {{"meaning", {}}, {"grid", {}}}); }
  bool run(Results& results, const std::vector<Configuration>& cells, Question question,
           std::uint64_t most_bytes = 1 << 30, PrefillMode prefill = PrefillMode::kExact,
           const RunControl& watch = {}) {
    return run_answers(loaded_.model, loaded_.engine, cells, samples_,
                       {.question = question,
                        .most_cache_bytes = most_bytes,
                        .cells = {.types = CacheTypes::parse("f32"), .prefill = prefill}},
                       watch, results);
  }
  // What does not depend on what else ran.
  static std::map<std::string, std::string> essence(const Results& results) {
    std::map<std::string, std::string> all;
    for (nlohmann::json record : results.records()) {
      for (const char* key : {"pass", "decode_ms", "kl", "same"}) record.erase(key);
      record["kv"].erase("held_bytes");  // of the timed steps too
      record["kv"].erase("full_bytes");
      record["kv"].erase("peak_bytes");
      all[record.at("sample").get<std::string>() + " " + record.at("cell").get<std::string>()] = record.dump();
    }
    return all;
  }

  Loaded loaded_{small()};
  std::vector<Sample> samples_;
  TemporaryFolder folder_;
};

TEST_F(AnswersOfTinyModel, OfAGridFromOnePassAreThoseOfEachCellAlone) {
  for (const PrefillMode prefill : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    for (const Question question : {Question::kSeen, Question::kLater}) {
      const std::string name = std::to_string((int)question) + std::to_string((int)prefill);
      Results together = folder("together" + name), apart = folder("apart" + name);
      ASSERT_TRUE(run(together, grid(), question, 1 << 30, prefill));
      for (const Configuration& cell : grid()) ASSERT_TRUE(run(apart, {cell}, question, 1 << 30, prefill));
      EXPECT_EQ(together.records().size(), 3 * grid().size());
      EXPECT_EQ(essence(together), essence(apart)) << name;
      for (const auto& record : together.records()) EXPECT_EQ(record.at("pass").at("cells"), grid().size());
    }
  }
}

TEST_F(AnswersOfTinyModel, TakeAsManyPassesAsMemoryNeedsWithTheSameResults) {
  Results one = folder("one"), many = folder("many");
  ASSERT_TRUE(run(one, grid(), Question::kSeen));
  ASSERT_TRUE(run(many, grid(), Question::kSeen, 1));
  EXPECT_EQ(essence(one), essence(many));
  for (std::size_t i = 0; i < many.records().size(); ++i) {
    EXPECT_EQ(many.records()[i].at("pass").at("cells"), 1);
    EXPECT_EQ(many.records()[i].at("same"), one.records()[i].at("same"));
  }
}

TEST_F(AnswersOfTinyModel, OfTheFullCacheAreItsOwnAndThoseOfAnUnusedBudgetToo) {
  Results results = folder("a");
  ASSERT_TRUE(run(results,
                  make_grid(std::vector<std::string>{"full", "cake:window=8"}, std::vector<std::string>{"200"}),
                  Question::kLater));
  for (const auto& record : results.records()) {
    EXPECT_EQ(record.at("same"), 1);
    EXPECT_EQ(record.at("kl"), 0);
  }
}

// Two texts with three questions each.
class QuestionsAboutOneText : public AnswersOfTinyModel {
 protected:
  void SetUp() override {
    AnswersOfTinyModel::SetUp();
    std::vector<Sample> all;
    for (int text = 0; text < 2; ++text) {
      for (int q = 0; q < 3; ++q) {
        Sample s = samples_[(std::size_t)text];
        s.text = s.id;
        s.number = (std::size_t)q + 1;
        s.id += "/" + std::to_string(q);
        s.question = "what is it in " + std::to_string(q) + " or so";  // of one length, so that budgets are too
        all.push_back(s);
      }
    }
    samples_ = all;
  }
  // Each question as if its text had no other.
  Results alone(const std::string& name, PrefillMode prefill) {
    Results results = folder(name);
    std::vector<Sample> together;
    std::swap(together, samples_);
    for (const Sample& s : together) {
      samples_ = {s};
      EXPECT_TRUE(run(results, grid(), Question::kLater, 1 << 30, prefill));
    }
    samples_ = together;
    return results;
  }
};

TEST_F(QuestionsAboutOneText, AreAnsweredAsIfEachWereTheOnlyOne) {
  for (const PrefillMode prefill : {PrefillMode::kExact, PrefillMode::kStreaming}) {
    const std::string name = std::to_string((int)prefill);
    Results together = folder("together" + name), narrow = folder("narrow" + name);
    ASSERT_TRUE(run(together, grid(), Question::kLater, 1 << 30, prefill));
    ASSERT_TRUE(run(narrow, grid(), Question::kLater, 1, prefill));
    EXPECT_EQ(together.records().size(), 6 * grid().size());
    EXPECT_EQ(essence(together), essence(alone("alone" + name, prefill))) << name;
    EXPECT_EQ(essence(together), essence(narrow)) << name;
    std::map<std::string, nlohmann::json> same;
    for (const auto& record : together.records())
      same[record.at("sample").dump() + record.at("cell").dump()] = record.at("same");
    for (const auto& record : narrow.records()) {
      EXPECT_EQ(record.at("same"), same.at(record.at("sample").dump() + record.at("cell").dump()));
    }
    EXPECT_EQ(together.records()[0].at("text"), "s0");
    EXPECT_EQ(together.records()[0].at("question"), 1);
  }
}

TEST_F(QuestionsAboutOneText, GoOnInTheMiddleOfAText) {
  Results whole = folder("whole");
  ASSERT_TRUE(run(whole, grid(), Question::kLater));
  const std::vector<Sample> all = samples_;
  samples_ = {all[1]};
  {
    Results first = folder("parts");
    ASSERT_TRUE(run(first, {grid()[0], grid()[2]}, Question::kLater));
  }
  samples_ = all;
  Results rest = folder("parts");
  ASSERT_TRUE(run(rest, grid(), Question::kLater));
  EXPECT_EQ(essence(rest), essence(whole));
}

// A policy that notes which prompts it was shown.
class Watched final : public Policy {
 public:
  struct Prompt {
    std::size_t n_new;
    bool more_follows;
    bool operator==(const Prompt&) const = default;
  };
  Watched(std::unique_ptr<Policy> inside, std::vector<Prompt>& seen) : inside_(std::move(inside)), seen_(seen) {}

  const PolicyTraits& traits() const override { return inside_->traits(); }
  Measures measures(Phase phase, int layer, std::size_t n, std::size_t n_new) const override {
    return inside_->measures(phase, layer, n, n_new);
  }
  void update(const Observation& seen, CacheEdits& edits) override {
    if (seen.layer == 0 && seen.phase == Phase::kPrefill) seen_.push_back({seen.n_new, seen.more_follows});
    inside_->update(seen, edits);
  }
  std::size_t peak_entries(std::size_t held, std::size_t n_new) const override {
    return inside_->peak_entries(held, n_new);
  }
  std::size_t reserve(int layer, int head) const override { return inside_->reserve(layer, head); }
  void resize(std::size_t size, CacheEdits& edits) override { inside_->resize(size, edits); }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Watched>(inside_->clone(), seen_); }
  void visit(PolicyFields& state) override { inside_->visit(state); }

 private:
  std::unique_ptr<Policy> inside_;
  std::vector<Prompt>& seen_;
};

TEST_F(QuestionsAboutOneText, HaveItReadOnceWithoutThemAndAPolicyIsToldThatTheyFollow) {
  std::vector<Watched::Prompt> seen;
  PolicyType type = *find_policy_type("streaming-llm");
  const auto make = type.make;
  type.make = [&, make](const PolicySettings& settings, const AttentionShape& shape, std::size_t size) {
    return std::make_unique<Watched>(make(settings, shape, size), seen);
  };
  const Configuration cell{{.type = std::make_shared<const PolicyType>(type)}, Budget::parse("24")};
  samples_.resize(3);
  const auto n_tokens = [&](const std::string& text, bool first) {
    return loaded_.model.tokenize(text, false, first).size();
  };
  const std::size_t context = n_tokens(samples_[0].context, true), question = n_tokens(samples_[0].question, false);
  Results later = folder("later");
  ASSERT_TRUE(run(later, {cell}, Question::kLater));
  EXPECT_EQ(seen,
            (std::vector<Watched::Prompt>{{context, true}, {question, false}, {question, false}, {question, false}}));
  seen.clear();
  samples_.resize(1);
  Results before = folder("seen");
  ASSERT_TRUE(run(before, {cell}, Question::kSeen));
  EXPECT_EQ(seen, (std::vector<Watched::Prompt>{{n_tokens(samples_[0].context + samples_[0].question, true), false}}));
}

TEST_F(AnswersOfTinyModel, GoOnWhereTheyWereStopped) {
  Results whole = folder("whole");
  ASSERT_TRUE(run(whole, grid(), Question::kSeen));
  std::size_t calls = 0;
  RunControl watch;
  watch.progress = [&](std::size_t done, std::size_t total) { return done <= total && ++calls < 18; };
  {
    Results stopped = folder("stopped");
    EXPECT_FALSE(run(stopped, grid(), Question::kSeen, 1 << 30, PrefillMode::kExact, watch));
    EXPECT_GT(stopped.records().size(), 0u);
    EXPECT_LT(stopped.records().size(), whole.records().size());
  }
  Results rest = folder("stopped");
  ASSERT_TRUE(run(rest, grid(), Question::kSeen));
  EXPECT_EQ(essence(rest), essence(whole));
}

TEST(Answers, HaveALineOnceItEndsBehindSomething) {
  for (const char* text : {"", "\n\n", "Food", "\nFood"}) EXPECT_FALSE(has_line(text)) << text;
  for (const char* text : {"Food\n", "\n\nFood\nAnimal", " \n"}) EXPECT_TRUE(has_line(text)) << text;
}

TEST_F(AnswersOfTinyModel, LeaveOutCellsThatCannotRunAndSaySo) {
  Results results = folder("a");
  KeptNotices notices;
  const auto cells = make_grid(std::vector<std::string>{"full", "cake:window=8"}, std::vector<std::string>{"2"});
  ASSERT_TRUE(run(results, cells, Question::kSeen, 1 << 30, PrefillMode::kExact, notices.control));
  EXPECT_EQ(results.records().size(), 3u);
  EXPECT_NE(notices.lines.back().find("cake"), std::string::npos) << notices.lines.back();
}

TEST_F(AnswersOfTinyModel, AreLeftOutWhereTheModelsLengthEndsAndThatIsSaidOfEachLength) {
  Loaded short_model(small_trained_for(64));
  KeptNotices notices;
  Results results = folder("a");
  const auto cells = make_grid(std::vector<std::string>{"full", "streaming-llm"}, std::vector<std::string>{"24"});
  const AnswerOptions streaming{.question = Question::kSeen,
                                .most_cache_bytes = 1 << 30,
                                .cells = {.types = CacheTypes::parse("f32"), .prefill = PrefillMode::kStreaming}};
  ASSERT_TRUE(run_answers(short_model.model, short_model.engine, cells, samples_, streaming, notices.control, results));
  EXPECT_EQ(results.records().size(), 3u);
  EXPECT_EQ(notices.lines.size(), 3u);  // of each length
  for (const std::string& line : notices.lines) EXPECT_TRUE(contains(line, "training length 64")) << line;
}

TEST_F(AnswersOfTinyModel, LeaveOutCellsWhoseLengthEndsBeforeTheAnswerDoes) {
  samples_.resize(1);
  Results whole = folder("whole");
  const auto cells = make_grid(std::vector<std::string>{"full", "streaming-llm"}, std::vector<std::string>{"24"});
  ASSERT_TRUE(run(whole, cells, Question::kSeen));
  const int n_prompt = whole.records().at(0).at("tokens").at("prompt");
  // Five of an answer's six tokens are fed.
  for (const int room : {5, 4}) {
    Loaded short_model(small_trained_for(n_prompt + room));
    KeptNotices notices;
    Results results = folder("a" + std::to_string(room));
    const AnswerOptions streaming{.question = Question::kSeen,
                                  .most_cache_bytes = 1 << 30,
                                  .cells = {.types = CacheTypes::parse("f32"), .prefill = PrefillMode::kStreaming}};
    ASSERT_TRUE(
        run_answers(short_model.model, short_model.engine, cells, samples_, streaming, notices.control, results));
    EXPECT_EQ(results.records().size(), room == 5 ? 2u : 1u);
    EXPECT_EQ(notices.lines.size(), room == 5 ? 0u : 1u);
    for (const std::string& line : notices.lines) EXPECT_TRUE(contains(line, "training length")) << line;
  }
}

TEST_F(AnswersOfTinyModel, AreNoneWhereNoCellCanRunOrNothingIsAsked) {
  Results results = folder("a");
  const std::vector<Configuration> cells =
      make_grid(std::vector<std::string>{"cake:window=8"}, std::vector<std::string>{"1"});
  const std::string none = refusal(Error::Kind::kUsage, [&] { run(results, cells, Question::kSeen); });
  EXPECT_TRUE(none.starts_with("cake:window=8 @ 1 left out at")) << none;
  ASSERT_TRUE(run(results, grid(), Question::kSeen));
  samples_.clear();
  const std::string nothing = refusal(Error::Kind::kInput, [&] { run(results, grid(), Question::kSeen); });
  EXPECT_TRUE(nothing.starts_with("samples: expected one or more")) << nothing;
}

TEST(AnswerMetrics, AreMeansWithIntervalsByCellAndTags) {
  const auto record = [](const char* cell, int depth, double score) {
    return nlohmann::json{{"sample", std::to_string(depth)},
                          {"cell", cell},
                          {"tags", {{"depth", depth}}},
                          {"score", score},
                          {"tokens", {{"prompt", 100}}},
                          {"pass", {{"prefill_ms", 50}}},
                          {"kv", {{"held_bytes", 1}, {"full_bytes", 4}, {"peak_bytes", 2}}}};
  };
  const auto grid = make_grid(std::vector<std::string>{"full", "streaming-llm"}, std::vector<std::string>{"9"});
  const std::string other = grid[1].name();
  const auto metrics = answer_metrics(
      "needle",
      {record("full", 0, 1), record("full", 50, 1), record(other.c_str(), 0, 1), record(other.c_str(), 50, 0)}, grid,
      "full");
  const auto& cell = metrics.at("cells").at(1);
  EXPECT_DOUBLE_EQ(cell.at("score").get<double>(), 0.5);
  EXPECT_DOUBLE_EQ(cell.at("retention").get<double>(), 0.5);
  EXPECT_LT(cell.at("interval").at(0), 0.1);
  EXPECT_GT(cell.at("interval").at(1), 0.9);
  EXPECT_LT(cell.at("retention_interval").at(0), 0.5);
  EXPECT_FALSE(metrics.at("cells").at(0).contains("retention_interval"));
  EXPECT_EQ(cell.at("beside").at("interval").at(0), -1);
  EXPECT_DOUBLE_EQ(cell.at("beside").at("difference").get<double>(), -0.5);
  EXPECT_EQ(cell.at("beside").at("cell"), "full");
  EXPECT_DOUBLE_EQ(cell.at("pass_prefill_tokens_per_s").get<double>(), 2000);
  ASSERT_EQ(cell.at("groups").size(), 2u);
  EXPECT_EQ(cell.at("groups").at(1).at("tags").at("depth"), 50);
  EXPECT_EQ(cell.at("groups").at(1).at("score"), 0);
  EXPECT_FALSE(cell.contains("task_mean"));
}

TEST(AnswerMetrics, WeighTasksAlikeHoweverManySamplesTheyHave) {
  int n = 0;
  const auto record = [&n](const char* task, double score) {
    return nlohmann::json{{"sample", std::to_string(n++)},
                          {"cell", "full"},
                          {"tags", {{"task", task}}},
                          {"score", score},
                          {"tokens", {{"prompt", 100}}},
                          {"pass", {{"prefill_ms", 50}}},
                          {"kv", {{"held_bytes", 1}, {"full_bytes", 4}, {"peak_bytes", 2}}}};
  };
  const auto metrics = answer_metrics("longbench", {record("a", 1), record("a", 1), record("a", 1), record("b", 0)},
                                      make_grid(std::vector<std::string>{"full"}, {}));
  EXPECT_DOUBLE_EQ(metrics.at("cells").at(0).at("task_mean").get<double>(), 0.5);
  EXPECT_DOUBLE_EQ(metrics.at("cells").at(0).at("score").get<double>(), 0.75);
}

TEST(AnswerMetrics, CountTextsAndScoreEachQuestion) {
  std::vector<nlohmann::json> records;
  for (int text = 0; text < 3; ++text) {
    for (int q = 1; q <= 2; ++q) {
      records.push_back({{"sample", std::to_string(10 * text + q)},
                         {"text", std::to_string(text)},
                         {"question", q},
                         {"cell", "full"},
                         {"tags", {{"task", "a"}}},
                         {"score", q == 1 ? 1 : 0},
                         {"tokens", {{"prompt", 100}}},
                         {"pass", {{"prefill_ms", 50}}},
                         {"kv", {{"held_bytes", 1}, {"full_bytes", 4}, {"peak_bytes", 2}}}});
    }
  }
  const auto metrics = answer_metrics("ruler", records, make_grid(std::vector<std::string>{"full"}, {}));
  const auto& cell = metrics.at("cells").at(0);
  EXPECT_EQ(cell.at("samples"), 6);
  EXPECT_EQ(cell.at("texts"), 3);
  ASSERT_EQ(cell.at("questions").size(), 2u);
  EXPECT_EQ(cell.at("questions").at(0).at("score"), 1);
  EXPECT_EQ(cell.at("questions").at(1).at("score"), 0);
  EXPECT_EQ(cell.at("groups").size(), 1u);
}

}  // namespace
}  // namespace lacake::eval
