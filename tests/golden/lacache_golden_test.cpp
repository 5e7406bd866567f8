// LaCache against the official code, entry by entry: every *.json with a `stream` or `prefill` list of cases.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "golden/golden_files.h"
#include "lacake/error.h"
#include "policies/lacache/lacache.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using nlohmann::json;
using simulation::AttentionSource;

// A case of any file. Settings are the file's.
struct Case {
  std::string name;
  json data;

  std::size_t size(const char* key) const { return data.at(key).get<std::size_t>(); }
  AttentionShape shape() const { return {.n_layer = data.at("layers").get<int>(), .n_head = 1, .n_head_kv = 1}; }

  std::unique_ptr<Policy> make(std::string_view query) const {
    PolicySpec spec = PolicySpec::parse("lacache:query=" + std::string(query));
    spec.settings["span"] = data.at("span").get<double>();
    spec.settings["overlap"] = data.at("overlap").get<double>();
    spec.settings["sinks"] = data.at("start_size").get<double>();
    return spec.type->make(spec.settings, shape(), size("cache_size"));
  }
};

std::vector<Case> cases_under(std::initializer_list<const char*> sections) {
  std::vector<Case> cases;
  for (const auto& path : golden::files(".json")) {
    const json file = golden::read_json(path);
    for (const char* section : sections) {
      if (!file.is_object() || !file.contains(section) || !file.at(section).is_array()) continue;
      for (const json& data : file.at(section)) {
        if (!data.contains("ladder_cursor_after_step")) continue;
        cases.push_back({path.filename().string() + " " + section + " L" + data.at("layers").dump() + " C" +
                             data.at("cache_size").dump() + " s" + data.at("span").dump() + " o" +
                             data.at("overlap").dump(),
                         data});
      }
    }
  }
  return cases;
}

AttentionSource no_attention() {
  return
      [](int, std::size_t, std::size_t) -> std::vector<float> { throw std::logic_error("LaCache needs no attention"); };
}

std::vector<std::int64_t> decoded_runs(const json& runs) {
  std::vector<std::int64_t> positions;
  for (const json& run : runs) {
    for (std::int64_t i = 0; i < run[1].get<std::int64_t>(); ++i) positions.push_back(run[0].get<std::int64_t>() + i);
  }
  return positions;
}

// Compares all layers with a dump of the file.
void expect_dump(const json& dump, const std::vector<std::vector<std::int64_t>>& held) {
  ASSERT_EQ(dump.at("layer_pattern").size(), held.size());
  for (std::size_t layer = 0; layer < held.size(); ++layer) {
    const auto pattern = dump.at("layer_pattern")[layer].get<std::size_t>();
    ASSERT_EQ(held[layer], decoded_runs(dump.at("patterns")[pattern])) << "layer " << layer;
  }
}

std::vector<std::vector<std::int64_t>> held_with(const simulation::SimulatedCache& cache, int n_layer, bool newest) {
  std::vector<std::vector<std::int64_t>> held;
  for (int layer = 0; layer < n_layer; ++layer) {
    held.push_back(cache.held(layer));
    if (newest) held.back().push_back(cache.n_past());
  }
  return held;
}

void expect_checkpoints(const Case& c, std::int64_t step, const std::string& when,
                        const simulation::SimulatedCache& cache) {
  for (const json& dump : c.data.at("checkpoints")) {
    if (dump.at("step").get<std::int64_t>() != step || dump.at("when") != when) continue;
    SCOPED_TRACE(when + " of step " + std::to_string(step));
    expect_dump(dump, held_with(cache, c.shape().n_layer, when == "before_call"));
  }
}

// Steps t = 0 .. n-1 of one token each, against the arrays of the case; compactions are collected in the file's form.
void expect_steps(const Case& c, lacache::LaCache& policy, simulation::SimulatedCache& cache, Phase phase,
                  json& compactions) {
  const std::size_t n_steps = c.data.at("len_after_step").size();
  for (std::size_t t = 0; t < n_steps; ++t) {
    expect_checkpoints(c, (std::int64_t)t, "before_call", cache);
    const std::size_t before = cache.length(0) + 1;
    const std::size_t cursor = policy.cursor();
    cache.feed(policy, phase, 1, no_attention());

    ASSERT_EQ(cache.query_position(), c.data["query_position"][t].get<std::int64_t>()) << "step " << t;
    ASSERT_EQ(cache.length(0), c.data["len_after_step"][t].get<std::size_t>()) << "step " << t;
    ASSERT_EQ(policy.cursor(), c.data["ladder_cursor_after_step"][t].get<std::size_t>()) << "step " << t;
    for (int layer = 1; layer < c.shape().n_layer; ++layer) ASSERT_EQ(cache.length(layer), cache.length(0));
    expect_checkpoints(c, (std::int64_t)t, "after_call", cache);
    if (testing::Test::HasFatalFailure()) return;
    if (cache.length(0) < before) {
      compactions.push_back({t, before, cache.length(0), cursor, policy.cursor(), policy.cursor() <= cursor ? 1 : 0});
    }
  }
}

void expect_stream(const Case& c) {
  SCOPED_TRACE(c.name);
  const json& failed = c.data.at("error");
  std::unique_ptr<Policy> made;
  try {
    made = c.make("script");
  } catch (const Error& error) {
    // Refused before anything runs: only what the official code fails at.
    EXPECT_FALSE(failed.is_null()) << error.what();
    EXPECT_EQ(error.kind(), Error::Kind::kUsage);
    return;
  }
  auto& policy = dynamic_cast<lacache::LaCache&>(*made);
  simulation::SimulatedCache cache(c.shape(), policy.traits());
  json compactions = json::array();
  expect_steps(c, policy, cache, Phase::kDecode, compactions);
  if (testing::Test::HasFatalFailure()) return;
  if (!failed.is_null()) {
    EXPECT_THROW(cache.feed(policy, Phase::kDecode, 1, no_attention()), Error);
    return;
  }
  EXPECT_EQ(cache.n_past(), c.data.at("n_tokens").get<std::int64_t>());
  EXPECT_EQ(policy.cache_size(), c.size("cache_size_effective"));
  EXPECT_EQ(compactions, c.data.at("compactions"));
}

std::size_t n_duplicates(const simulation::SimulatedCache& cache, int n_layer) {
  std::size_t count = 0;
  for (int layer = 0; layer < n_layer; ++layer) {
    simulation::PositionList sorted = cache.held(layer);
    std::sort(sorted.begin(), sorted.end());
    count += (std::size_t)(sorted.end() - std::unique(sorted.begin(), sorted.end()));
  }
  return count;
}

void expect_prefill(const Case& c) {
  SCOPED_TRACE(c.name + " n" + c.data.at("n_prompt").dump());
  ASSERT_TRUE(c.data.at("error").is_null()) << "no rule for a failing prompt is known";
  const auto made = c.make("own");
  auto& policy = dynamic_cast<lacache::LaCache&>(*made);
  simulation::SimulatedCache cache(c.shape(), policy.traits());
  cache.feed(policy, Phase::kPrefill, c.size("n_prompt"), no_attention());

  EXPECT_EQ(cache.length(0), c.size("len_after_prefill"));
  EXPECT_EQ(policy.cursor(), c.size("ladder_cursor_after_prefill"));
  expect_checkpoints(c, -1, "after_prefill", cache);
  json compactions = json::array();
  expect_steps(c, policy, cache, Phase::kDecode, compactions);
  EXPECT_EQ(policy.cache_size(), c.size("cache_size_effective"));
  EXPECT_EQ(n_duplicates(cache, c.shape().n_layer) > 0, c.size("duplicates_at_end") > 0);
}

TEST(LaCacheGolden, EveryStreamedTokenLeavesTheOfficialCache) {
  const auto cases = cases_under({"stream", "stream_edge"});
  EXPECT_FALSE(cases.empty()) << golden::folder();
  for (const Case& c : cases) expect_stream(c);
}

TEST(LaCacheGolden, EveryPromptLeavesTheOfficialCache) {
  const auto cases = cases_under({"prefill"});
  EXPECT_FALSE(cases.empty()) << golden::folder();
  for (const Case& c : cases) expect_prefill(c);
}

}  // namespace
}  // namespace lacake
