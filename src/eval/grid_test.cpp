#include "eval/grid.h"

#include <gtest/gtest.h>

#include "lacake/error.h"

namespace lacake::eval {
namespace {

std::vector<std::string> names(const std::vector<std::string>& policies, const std::vector<std::string>& budgets) {
  std::vector<std::string> result;
  for (const Configuration& cell : make_grid(policies, budgets)) result.push_back(cell.name());
  return result;
}

TEST(Grid, HasEveryPolicyAtEveryBudgetAndTheFullCacheOnce) {
  const auto cells = names({"full", "streaming-llm", "full", "streaming-llm:cache_size=9"}, {"64", "3.2%", "64"});
  ASSERT_EQ(cells.size(), 4u);
  EXPECT_EQ(cells[0], PolicySpec::parse("full").text());
  EXPECT_EQ(cells[1], PolicySpec::parse("streaming-llm").text() + " @ 64");
  EXPECT_EQ(cells[2], PolicySpec::parse("streaming-llm").text() + " @ 3.2%");
  EXPECT_EQ(cells[3], PolicySpec::parse("streaming-llm:cache_size=9").text());
}

TEST(Grid, OfAllHasEveryPolicyThatTheModelCanRun) {
  const std::vector<std::string> all = {"all"}, budget = {"100"};
  std::size_t needing = 0;
  for (const PolicyType& type : policy_types()) needing += type.needs_calibration;
  EXPECT_GT(needing, 0u);
  EXPECT_EQ(make_grid(all, budget, true).size(), policy_types().size());
  EXPECT_EQ(make_grid(all, budget, false).size(), policy_types().size() - needing);
}

TEST(Grid, HoldsACellAgainstAPolicyAtItsBudgetOrAgainstOneCell) {
  const auto cells = make_grid(std::vector<std::string>{"full", "streaming-llm", "lacache:span=2"},
                               std::vector<std::string>{"64", "50%"});
  for (const Configuration& cell : cells) EXPECT_EQ(Configuration::parse(cell.name()).name(), cell.name());
  const auto beside = [&](std::size_t i, const char* text) {
    const Configuration* other = cell_beside(cells, cells[i], text);
    return other ? other->name() : "";
  };
  EXPECT_EQ(beside(3, "streaming-llm"), cells[1].name());
  EXPECT_EQ(beside(4, "streaming-llm"), cells[2].name());
  EXPECT_EQ(beside(4, "streaming-llm @ 64"), cells[1].name());
  EXPECT_EQ(beside(4, "full"), "full");
  EXPECT_EQ(beside(1, "streaming-llm"), "");
  EXPECT_EQ(beside(0, "streaming-llm"), "");
  EXPECT_EQ(beside(1, ""), "");
}

TEST(Grid, RefusesABoundedPolicyWithoutBudget) { EXPECT_THROW(names({"streaming-llm"}, {}), Error); }

TEST(Grid, OfDifferentSamplesIsSaidToBeUneven) {
  const auto grid = make_grid(std::vector<std::string>{"full", "streaming-llm"}, std::vector<std::string>{"24"});
  const auto record = [](const char* cell, const char* sample) {
    return nlohmann::json{{"cell", cell}, {"sample", sample}};
  };
  std::vector<nlohmann::json> records = {record("full", "a"), record("full", "b"), record("streaming-llm @ 24", "a")};
  EXPECT_EQ(uneven_samples(records, grid),
            "cells have different samples, so their means are not of the same texts: full has 2, streaming-llm @ 24 "
            "has 1");
  records.push_back(record("streaming-llm @ 24", "b"));
  EXPECT_EQ(uneven_samples(records, grid), "");
  records.push_back(record("another that was left", "c"));
  EXPECT_EQ(uneven_samples(records, grid), "");
}

TEST(Grid, SharesReferToTheTokensNamed) {
  const Configuration cell = make_grid(std::vector<std::string>{"streaming-llm"}, std::vector<std::string>{"25%"})[0];
  EXPECT_EQ(cell_session(cell, {}, 0, 10, 400).budget.text(), "100");
}

TEST(Passes, HoldWhatFitsWithTheReferenceInEach) {
  const std::vector<std::uint64_t> bytes = {10, 4, 4, 4, 30};
  const std::vector<std::size_t> wanted = {0, 1, 2, 3, 4};
  const std::size_t reference = 0;
  using Groups = std::vector<std::vector<std::size_t>>;
  EXPECT_EQ(passes(bytes, wanted, &reference, 18), (Groups{{0, 1, 2}, {0, 3}, {0, 4}}));
  EXPECT_EQ(passes(bytes, wanted, nullptr, 18), (Groups{{0, 1, 2}, {3}, {4}}));
  EXPECT_EQ(passes(bytes, std::vector<std::size_t>{0}, &reference, 18), (Groups{{0}}));
}

}  // namespace
}  // namespace lacake::eval
