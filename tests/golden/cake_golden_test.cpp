// CAKE against the official code. `*.json` with `cases` of adjust_budgets; every `*.gguf` of architecture `golden` with
// `evict_score`: its numbers from each other, and, where the folder has the window's logits too (in the file or in its
// sibling `_logits`), the whole way from logits through the policy and the decode steps.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "attention/measure.h"
#include "golden/golden_files.h"
#include "policies/cake/cake.h"
#include "policies/layer_budgets.h"
#include "policies/score.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using golden::Archive;
using simulation::PositionList;
using simulation::SimulatedCache;

// The README's tolerances.
constexpr double kRelative = 1e-5;
constexpr double kCutGapPrompt = 1e-4;
constexpr double kCutGapDecode = 1e-5;
constexpr double kOrder = 1e-6;

struct Case {
  std::string name;
  Archive data;
  std::optional<Archive> logits_file;
  std::size_t n_layer, n_head, n_head_kv, window, cache_size, n_scored, n;

  explicit Case(const std::filesystem::path& path)
      : name(path.filename().string()),
        data(path),
        n_layer(data.size("cake.n_layer")),
        n_head(data.size("cake.n_head")),
        n_head_kv(data.size("cake.n_head_kv")),
        window(data.size("cake.window")),
        cache_size(data.size("cake.cache_size")),
        n_scored(data.row_size("evict_score")),
        n(n_scored + window) {
    std::filesystem::path sibling = path;
    sibling.replace_filename(path.stem().string() + "_logits.gguf");
    if (!data.has("window.logits_q8") && std::filesystem::exists(sibling)) logits_file.emplace(sibling);
  }

  bool has_logits() const { return logits_file || data.has("window.logits_q8"); }
  bool cascading() const { return data.number("cake.cascading") != 0; }
  bool evicted() const { return n > cache_size + window; }
  std::size_t total() const { return data.size("cake.total_budget"); }

  std::span<const float> scores(std::size_t layer, std::size_t head) const {
    return data.f32("evict_score").subspan((layer * n_head_kv + head) * n_scored, n_scored);
  }
  std::int32_t budget(std::size_t stage, std::size_t layer) const {
    return data.i32("cascade.budgets")[stage * n_layer + layer];
  }
  double cut_gap(std::size_t layer, std::size_t head) const { return data.f32("cut_gap")[layer * n_head_kv + head]; }

  AttentionShape shape() const { return {.n_layer = (int)n_layer, .n_head = (int)n_head, .n_head_kv = (int)n_head_kv}; }

  std::unique_ptr<Policy> make() const {
    PolicySpec spec =
        PolicySpec::parse(cascading() ? "cake:evict_fraction=0,cascade=on" : "cake:evict_fraction=0,cascade=off");
    for (const char* key : {"window", "gamma", "tau1", "tau2"}) {
      spec.settings[key] = data.number("cake." + std::string(key));
    }
    return spec.type->make(spec.settings, shape(), cache_size);
  }

  // Probabilities of one query head: [n, window].
  std::vector<float> probabilities(std::size_t layer, std::size_t head) const {
    const Archive& file = logits_file ? *logits_file : data;
    const auto logits = file.i8("window.logits_q8").subspan((layer * n_head + head) * window * n, window * n);
    const double scale = file.number("cake.logit_scale");
    std::vector<float> result(window * n, 0.0f);
    for (std::size_t row = 0; row < window; ++row) {
      const std::size_t visible = n - window + row + 1;
      const auto values = logits.subspan(row * n, visible);
      const double largest = scale * *std::max_element(values.begin(), values.end());
      double sum = 0;
      for (std::int8_t value : values) sum += std::exp(scale * value - largest);
      for (std::size_t i = 0; i < visible; ++i) {
        result[row * n + i] = (float)(std::exp(scale * values[i] - largest) / sum);
      }
    }
    return result;
  }
};

bool is_case(const std::filesystem::path& path) {
  const Archive file(path);
  return file.architecture() == "golden" && file.has_key("cake.n_layer") && file.has("evict_score");
}

std::vector<std::filesystem::path> case_files() {
  std::vector<std::filesystem::path> found;
  for (const auto& path : golden::files(".gguf")) {
    if (is_case(path)) found.push_back(path);
  }
  return found;
}

std::string layer_tensor(const std::string& prefix, std::size_t layer) { return prefix + ".l" + std::to_string(layer); }

// Row `row` of an I32 tensor of positions, without its padding of -1.
PositionList position_row(const Archive& data, const std::string& tensor, std::size_t row) {
  const std::size_t size = data.row_size(tensor);
  const auto values = data.i32(tensor).subspan(row * size, size);
  return {values.begin(), std::find(values.begin(), values.end(), -1)};
}

// What is in one list and not in the other.
std::size_t n_missing(const PositionList& expected, const PositionList& found) {
  const std::set<std::int64_t> have(found.begin(), found.end());
  return (std::size_t)std::count_if(expected.begin(), expected.end(),
                                    [&](std::int64_t p) { return !have.contains(p); });
}

// Expects the same entries; at a cut that float32 cannot tell apart (`close_cut`) the last kept may be another. Expects
// the same order too, except between entries whose scores (by position; none: no exception) agree to kOrder.
void expect_kept(const PositionList& expected, const PositionList& found, bool close_cut,
                 std::span<const float> scores) {
  ASSERT_EQ(expected.size(), found.size());
  const std::size_t missing = n_missing(expected, found);
  ASSERT_LE(missing, close_cut ? 1u : 0u);
  if (missing > 0) return;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == found[i]) continue;
    const auto a = (std::size_t)expected[i];
    const auto b = (std::size_t)found[i];
    ASSERT_LT(std::max(a, b), scores.size()) << "order differs at " << i << ": " << a << " and " << b;
    ASSERT_NEAR(scores[a], scores[b], kOrder * scores[a]) << "order differs at " << i << ": " << a << " and " << b;
  }
}

void expect_relative(double expected, double found, double tolerance, const char* what) {
  EXPECT_NEAR(found, expected, tolerance * std::abs(expected)) << what;
}

// --- numbers of a file from each other -------------------------------------------------------------------------------

// Budgets of stage m, for layers 0 .. m.
std::vector<std::int64_t> divided(const Case& c, std::size_t stage) {
  const std::vector<std::size_t> caps(stage + 1, c.n_scored);
  return divide_budget(c.data.f32("pref").first(stage + 1), c.total(), caps);
}

void expect_budgets(const Case& c) {
  for (std::size_t stage = c.cascading() ? 0 : c.n_layer - 1; stage < c.n_layer; ++stage) {
    const std::vector<std::int64_t> budgets = divided(c, stage);
    for (std::size_t layer = 0; layer <= stage; ++layer) {
      EXPECT_EQ(budgets[layer], c.budget(stage, layer)) << "stage " << stage << " layer " << layer;
    }
  }
  const std::vector<std::size_t> caps(c.n_layer, c.n_scored);
  const std::vector<std::size_t> final = clip(divided(c, c.n_layer - 1), caps);
  for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
    EXPECT_EQ(final[layer], (std::size_t)c.data.i32("layer_budget")[layer]) << "layer " << layer;
  }
}

void expect_kept_from_scores(const Case& c) {
  for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
    std::size_t count = c.n_scored;
    for (std::size_t stage = c.cascading() ? layer : c.n_layer - 1; stage < c.n_layer; ++stage) {
      count = std::min(count, (std::size_t)c.budget(stage, layer));
    }
    EXPECT_EQ(count + c.window, (std::size_t)c.data.i32("kept_len")[layer]);
    for (std::size_t head = 0; head < c.n_head_kv; ++head) {
      SCOPED_TRACE("layer " + std::to_string(layer) + " head " + std::to_string(head));
      const auto ranked = rank(c.scores(layer, head), count);
      PositionList found(ranked.begin(), ranked.end());
      for (std::size_t i = c.n_scored; i < c.n; ++i) found.push_back((std::int64_t)i);
      expect_kept(position_row(c.data, layer_tensor("kept", layer), head), found, false, c.scores(layer, head));
    }
  }
}

TEST(CakeGolden, BudgetsOfAdjustBudgetsAreExact) {
  std::size_t n_cases = 0;
  for (const auto& path : golden::files(".json")) {
    const nlohmann::json file = golden::read_json(path);
    if (!file.is_object() || !file.contains("cases")) continue;
    for (const auto& data : file.at("cases")) {
      if (!data.contains("pref") || !data.contains("out")) continue;
      const auto preferences = data.at("pref").get<std::vector<float>>();
      const std::vector<std::size_t> caps(preferences.size(), data.at("seq_len").get<std::size_t>());
      EXPECT_EQ(divide_budget(preferences, data.at("total").get<std::size_t>(), caps),
                data.at("out").get<std::vector<std::int64_t>>())
          << path.filename() << " case " << n_cases;
      ++n_cases;
    }
  }
  EXPECT_GT(n_cases, 0u) << golden::folder();
}

TEST(CakeGolden, GivenScoresLeaveTheOfficialEntries) {
  const auto paths = case_files();
  EXPECT_FALSE(paths.empty()) << golden::folder();
  for (const auto& path : paths) {
    const Case c(path);
    SCOPED_TRACE(c.name);
    for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
      expect_relative(c.data.f32("pref")[layer],
                      preference(c.data.f32("disp")[layer], c.data.f32("var")[layer], c.data.number("cake.tau1"),
                                 c.data.number("cake.tau2")),
                      kRelative, "pref");
    }
    if (!c.evicted()) continue;
    expect_budgets(c);
    expect_kept_from_scores(c);
  }
}

// --- from logits -----------------------------------------------------------------------------------------------------

void expect_statistics(const Case& c, std::size_t layer) {
  const std::size_t group = c.n_head / c.n_head_kv;
  std::vector<float> mean(c.n_head * c.n), variance(c.n_head * c.n);
  double dispersion = 0, shift = 0;
  for (std::size_t head = 0; head < c.n_head; ++head) {
    const std::vector<float> a = c.probabilities(layer, head);
    if (c.data.has("window.probs")) {
      const auto expected = c.data.f32("window.probs").subspan((layer * c.n_head + head) * a.size(), a.size());
      for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], expected[i], kRelative * expected[i] + 1e-12);
    }
    float* variance_row = variance.data() + head * c.n;
    dispersion += attention::window_statistics(a.data(), c.n, c.window, mean.data() + head * c.n, variance_row);
    for (std::size_t i = 0; i < c.n_scored; ++i) shift += variance_row[i];
  }
  expect_relative(c.data.f32("disp")[layer], dispersion, kRelative, "disp");
  expect_relative(c.data.f32("var")[layer], shift, kRelative, "var");
  for (std::size_t head = 0; head < c.n_head_kv; ++head) {
    const std::size_t begin = head * group * c.n;
    const auto scores =
        evict_score(std::span(mean).subspan(begin, group * c.n), std::span(variance).subspan(begin, group * c.n), c.n,
                    c.n_scored, (float)c.data.number("cake.gamma"));
    const auto expected = c.scores(layer, head);
    for (std::size_t i = 0; i < scores.size(); ++i) ASSERT_NEAR(scores[i], expected[i], kRelative * expected[i]);
  }
}

TEST(CakeGolden, StatisticsOfTheWindowAreTheOfficialOnes) {
  for (const auto& path : case_files()) {
    const Case c(path);
    SCOPED_TRACE(c.name);
    if (!c.has_logits()) continue;
    for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
      SCOPED_TRACE("layer " + std::to_string(layer));
      expect_statistics(c, layer);
    }
  }
}

// The file has the gap of the last cut only; earlier ones follow from its scores.
bool close_cut(std::span<const float> scores, std::size_t n_kept) {
  if (n_kept == 0 || n_kept >= scores.size()) return false;
  std::vector<float> sorted(scores.begin(), scores.end());
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  return sorted[n_kept - 1] - sorted[n_kept] <= kCutGapPrompt * sorted[n_kept - 1];
}

void expect_stage(const Case& c, const cake::Cake& policy, const SimulatedCache& cache, std::size_t stage) {
  for (std::size_t layer = 0; layer <= stage; ++layer) {
    SCOPED_TRACE("stage " + std::to_string(stage) + " layer " + std::to_string(layer));
    const auto budget = std::min<std::int64_t>(c.budget(stage, layer), (std::int64_t)c.n_scored);
    if (c.evicted() && (c.cascading() || stage + 1 == c.n_layer)) {
      EXPECT_EQ((std::int64_t)policy.budget((int)layer), budget);
    }
    const std::string tensor = layer_tensor("stage" + std::to_string(stage) + ".kept", layer);
    if (!c.data.has(tensor)) continue;
    for (std::size_t head = 0; head < c.n_head_kv; ++head) {
      const PositionList expected = position_row(c.data, tensor, head);
      expect_kept(expected, cache.held((int)layer, (int)head),
                  close_cut(c.scores(layer, head), expected.size() - c.window), c.scores(layer, head));
    }
  }
}

void expect_prompt(const Case& c, cake::Cake& policy, SimulatedCache& cache) {
  const auto window_rows = [&](int layer, std::size_t n_entries, std::size_t n_rows) {
    EXPECT_EQ(n_entries, c.n);
    EXPECT_EQ(n_rows, c.window);
    std::vector<float> rows;
    for (std::size_t head = 0; head < c.n_head; ++head) {
      const auto a = c.probabilities((std::size_t)layer, head);
      rows.insert(rows.end(), a.begin(), a.end());
    }
    return rows;
  };
  cache.feed(policy, Phase::kPrefill, c.n, window_rows,
             [&](int layer) { expect_stage(c, policy, cache, (std::size_t)layer); });
  for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
    EXPECT_EQ(policy.budget((int)layer), (std::size_t)c.data.i32("layer_budget")[layer]);
    if (c.evicted()) {
      expect_relative(c.data.f32("pref")[layer], policy.preference((int)layer), kRelative, "pref");
    }
    for (std::size_t head = 0; head < c.n_head_kv; ++head) {
      SCOPED_TRACE("layer " + std::to_string(layer) + " head " + std::to_string(head));
      const double gap = c.cut_gap(layer, head);
      expect_kept(position_row(c.data, layer_tensor("kept", layer), head), cache.held((int)layer, (int)head),
                  gap >= 0 && gap <= kCutGapPrompt, c.scores(layer, head));
    }
  }
}

// Sets what the official code held before step t: a state that differs once cannot be continued.
void set_official_state(const Case& c, SimulatedCache& cache, std::size_t step) {
  for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
    for (std::size_t head = 0; head < c.n_head_kv; ++head) {
      cache.set_held((int)layer, (int)head,
                     step == 0
                         ? position_row(c.data, layer_tensor("kept", layer), head)
                         : position_row(c.data, layer_tensor("decode.kept", layer), (step - 1) * c.n_head_kv + head));
    }
  }
}

std::vector<float> decode_rows(const Case& c, std::size_t step, std::size_t layer, std::size_t n_entries) {
  const std::string tensor = layer_tensor("decode.rows", layer);
  const std::size_t stride = c.data.row_size(tensor);
  std::vector<float> rows;
  for (std::size_t head = 0; head < c.n_head; ++head) {
    const auto row = c.data.f32(tensor).subspan((step * c.n_head + head) * stride, n_entries);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

void expect_decode(const Case& c, cake::Cake& policy, SimulatedCache& cache) {
  for (std::size_t step = 0; step < c.data.size("cake.decode_steps"); ++step) {
    set_official_state(c, cache, step);
    cache.feed(policy, Phase::kDecode, 1, [&](int layer, std::size_t n_entries, std::size_t n_rows) {
      const auto index = (std::size_t)layer;
      EXPECT_EQ(n_rows, 1u);
      EXPECT_EQ(n_entries, (std::size_t)c.data.i32(layer_tensor("decode.row_len", index))[step]);
      return decode_rows(c, step, index, n_entries);
    });
    for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
      for (std::size_t head = 0; head < c.n_head_kv; ++head) {
        SCOPED_TRACE("step " + std::to_string(step) + " layer " + std::to_string(layer) + " head " +
                     std::to_string(head));
        const double gap = c.data.f32(layer_tensor("decode.cut_gap", layer))[step * c.n_head_kv + head];
        // A gap of exactly 0 is a tie, and ties have a rule.
        expect_kept(position_row(c.data, layer_tensor("decode.kept", layer), step * c.n_head_kv + head),
                    cache.held((int)layer, (int)head), gap > 0 && gap <= kCutGapDecode, {});
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(CakeGolden, ThePolicyKeepsTheOfficialEntriesAtEveryStep) {
  std::size_t n_cases = 0;
  for (const auto& path : case_files()) {
    const Case c(path);
    SCOPED_TRACE(c.name);
    if (!c.has_logits()) continue;
    ++n_cases;
    const std::unique_ptr<Policy> made = c.make();
    auto& policy = dynamic_cast<cake::Cake&>(*made);
    SimulatedCache cache(c.shape(), policy.traits());
    expect_prompt(c, policy, cache);
    expect_decode(c, policy, cache);
  }
  EXPECT_GT(n_cases, 0u) << golden::folder();
}

}  // namespace
}  // namespace lacake
