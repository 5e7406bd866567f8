#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/test_session.h"
#include "eval/distribution.h"
#include "eval/test_control.h"
#include "tools/temporary_folder.h"

namespace lacake::eval {
namespace {

class PerplexityOfTinyModel : public testing::Test {
 protected:
  Results folder(const std::string& name) const { return Results(folder_.path(name), {{"meaning", {}}, {"grid", {}}}); }
  bool run(Results& results, const std::vector<std::string>& policies, const PerplexityOptions& options,
           const RunControl& watch = {}) {
    return run_perplexity(loaded_.model, loaded_.engine, make_grid(policies, std::vector<std::string>{"24", "16"}),
                          {{"text", tokens_}}, options, watch, results);
  }
  static std::vector<float> values(const nlohmann::json& record) { return record.at("nll"); }
  // Of a cell, all its samples one after the other.
  static std::vector<float> values(const Results& results, const std::string& cell) {
    std::vector<float> all;
    for (const auto& record : results.records()) {
      if (record.at("cell") != cell) continue;
      for (const float x : values(record)) all.push_back(x);
    }
    return all;
  }
  static void expect_near(const std::vector<float>& a, const std::vector<float>& b, double tolerance) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance) << i;
  }

  Loaded loaded_{small()};
  Tokens tokens_ = random_tokens(loaded_.tiny, 100, 5);
  PerplexityOptions by_token_{.tokens = 90, .most_cache_bytes = 1 << 30, .cells = {.types = CacheTypes::parse("f32")}};
  PerplexityOptions by_chunk_{.chunk = 40, .most_cache_bytes = 1 << 30, .cells = {.types = CacheTypes::parse("f32")}};
  const std::vector<std::string> three_ = {"full", "streaming-llm", "lacache:span=2,sinks=2"};
  TemporaryFolder folder_;
};

TEST_F(PerplexityOfTinyModel, ByTokenScoresOneMoreThanNAndIsWhatASessionSays) {
  Results results = folder("a");
  ASSERT_TRUE(run(results, {"full"}, by_token_));
  const auto session = loaded_.engine.open(with("full"));
  std::vector<float> expected;
  for (std::size_t t = 0; t < 91; ++t) {
    session->step(tokens_[t]);
    expected.push_back((float)Distribution(session->logits()).surprise(tokens_[t + 1]));
  }
  expect_near(values(results.records().at(0)), expected, 6e-5);
}

TEST_F(PerplexityOfTinyModel, ByChunkScoresTheSecondHalfAfterTheMiddle) {
  Results results = folder("a");
  ASSERT_TRUE(run(results, {"full"}, by_chunk_));
  ASSERT_EQ(results.records().size(), 2u);
  for (std::size_t chunk = 0; chunk < 2; ++chunk) {
    std::span<const Token> part = std::span(tokens_).subspan(chunk * 40, 40);
    const auto session = loaded_.engine.open(with("full"));
    std::vector<float> expected;
    // A BOS in place of the first token, as the vocabulary of the tiny models asks for or not.
    Tokens fed(part.begin(), part.end());
    if (loaded_.model.tokenize("a", false, true).size() > loaded_.model.tokenize("a", false, false).size()) {
      fed[0] = loaded_.model.tokenize("a", false, true)[0];
    }
    for (std::size_t t = 0; t + 1 < 40; ++t) {
      session->step(fed[t]);
      if (t >= 20) expected.push_back((float)Distribution(session->logits()).surprise(fed[t + 1]));
    }
    EXPECT_EQ(results.records()[chunk].at("first"), 21);
    expect_near(values(results.records()[chunk]), expected, 1e-3);
  }
}

TEST_F(PerplexityOfTinyModel, OfAGridIsThatOfEachCellAlone) {
  for (const PerplexityOptions& options : {by_token_, by_chunk_}) {
    Results together = folder("together" + std::to_string(options.chunk));
    ASSERT_TRUE(run(together, three_, options));
    Results alone = folder("alone" + std::to_string(options.chunk));
    PerplexityOptions little = options;
    little.most_cache_bytes = 1;  // a cell a pass, beside the reference
    ASSERT_TRUE(run(alone, three_, little));
    ASSERT_EQ(together.records().size(), alone.records().size());
    for (const auto& cell : make_grid(three_, std::vector<std::string>{"24", "16"})) {
      EXPECT_EQ(values(together, cell.name()), values(alone, cell.name())) << cell.name();
      EXPECT_FALSE(values(together, cell.name()).empty());
    }
  }
}

TEST_F(PerplexityOfTinyModel, GoesOnWhereItWasStopped) {
  Results whole = folder("whole");
  ASSERT_TRUE(run(whole, three_, by_chunk_));
  std::size_t calls = 0;
  RunControl watch;
  watch.progress = [&](std::size_t, std::size_t) { return ++calls < 30; };
  {
    Results stopped = folder("stopped");
    EXPECT_FALSE(run(stopped, three_, by_chunk_, watch));
    EXPECT_GT(stopped.records().size(), 0u);
    EXPECT_LT(stopped.records().size(), whole.records().size());
  }
  Results rest = folder("stopped");
  ASSERT_TRUE(run(rest, three_, by_chunk_));
  for (const auto& cell : make_grid(three_, std::vector<std::string>{"24", "16"})) {
    EXPECT_EQ(values(rest, cell.name()), values(whole, cell.name()));
  }
}

// Keys at their tokens' own positions end with the length that the model was trained for.
TEST_F(PerplexityOfTinyModel, LeavesOutCellsThatEndBeforeTheTextAndKeepsTheOthers) {
  Loaded short_model(small_trained_for(64));
  KeptNotices notices;
  Results results = folder("a");
  const auto cells = make_grid(three_, std::vector<std::string>{"24"});
  ASSERT_TRUE(run_perplexity(short_model.model, short_model.engine, cells, {{"text", tokens_}}, by_token_,
                             notices.control, results));
  ASSERT_EQ(notices.lines.size(), 1u);
  EXPECT_TRUE(contains(notices.lines[0], "full cannot run: prompt: expected at most the model's training length 64"));
  EXPECT_EQ(results.records().size(), 2u);
}

TEST_F(PerplexityOfTinyModel, LeavesOutASharesOfTextsThatAreTooShortForIt) {
  KeptNotices notices;
  Results results = folder("a");
  PerplexityOptions whole = by_token_;
  whole.tokens = 0;
  const std::vector<Text> texts = {{"long", tokens_}, {"short", {tokens_.begin(), tokens_.begin() + 12}}};
  ASSERT_TRUE(run_perplexity(loaded_.model, loaded_.engine, make_grid(three_, std::vector<std::string>{"20%"}), texts,
                             whole, notices.control, results));
  EXPECT_EQ(notices.lines.size(), 2u);
  EXPECT_EQ(results.records().size(), 2u);  // of the full cache
}

TEST_F(PerplexityOfTinyModel, MetricsAreThoseOfTheRecords) {
  const std::vector<nlohmann::json> records = {{{"sample", "t"},
                                                {"cell", "full"},
                                                {"first", 3},
                                                {"sum", 6.0},
                                                {"nll", {1.0, 2.0, 3.0}},
                                                {"kl", 0.0},
                                                {"same", 1.0},
                                                {"kv", {{"peak_bytes", 8}, {"held_bytes", 6}, {"full_bytes", 6}}}}};
  const auto metrics = perplexity_metrics(records, make_grid(std::vector<std::string>{"full"}, {}), 4);
  const auto& cell = metrics.at("cells").at(0);
  EXPECT_DOUBLE_EQ(cell.at("perplexity").get<double>(), std::exp(2.0));
  EXPECT_NEAR(cell.at("standard_error").get<double>(), std::sqrt(2.0 / 3 / 2) * std::exp(2.0), 1e-12);
  ASSERT_EQ(cell.at("windows").size(), 2u);
  EXPECT_DOUBLE_EQ(cell.at("windows").at(0).at("perplexity").get<double>(), std::exp(1.0));
  EXPECT_DOUBLE_EQ(cell.at("windows").at(1).at("perplexity").get<double>(), std::exp(2.5));
}

TEST(PerplexityMetrics, HoldCellsAgainstEachOtherTokenByToken) {
  const auto grid = make_grid(std::vector<std::string>{"full", "streaming-llm", "tova"}, std::vector<std::string>{"9"});
  std::vector<nlohmann::json> records;
  for (std::size_t cell = 0; cell < 3; ++cell) {
    std::vector<double> nll;
    double sum = 0;
    for (int i = 0; i < 40; ++i) {
      nll.push_back(2 + (i * 7) % 5 + (cell == 1 ? 0.1 + 0.01 * (i % 3) : 0));
      sum += nll.back();
    }
    records.push_back({{"sample", "a"},
                       {"cell", grid[cell].name()},
                       {"first", 1},
                       {"sum", sum},
                       {"nll", nll},
                       {"kv", {{"peak_bytes", 8}, {"held_bytes", 6}, {"full_bytes", 6}}}});
  }
  const auto metrics = perplexity_metrics(records, grid, 4, "tova");
  const auto& full = metrics.at("cells").at(0);
  const auto& streaming = metrics.at("cells").at(1);
  EXPECT_FALSE(full.contains("ratio"));
  EXPECT_NEAR(streaming.at("ratio").at("ratio").get<double>(), std::exp(0.11), 0.01);
  EXPECT_GT(streaming.at("ratio").at("interval").at(0), 1.09);
  EXPECT_LT(streaming.at("ratio").at("interval").at(1), 1.14);
  EXPECT_EQ(streaming.at("beside").at("cell"), grid[2].name());
  EXPECT_EQ(metrics.at("cells").at(2).at("ratio").at("interval"), (nlohmann::json{1.0, 1.0}));
}

TEST(DistributionOfLogits, SurpriseAndDivergenceAreTheFormulas) {
  const std::vector<float> a = {0, std::log(3.0f)}, b = {0, 0};
  const Distribution p(a), q(b);
  EXPECT_NEAR(p.surprise(0), std::log(4.0), 1e-6);
  EXPECT_EQ(p.likeliest, 1);
  EXPECT_NEAR(divergence(p, q), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-6);
  EXPECT_EQ(divergence(p, p), 0);
}

}  // namespace
}  // namespace lacake::eval
