// Expected Attention, KeyDiff and (Layer-)DefensiveKV against the authors' code: every `*.gguf` of architecture
// `golden` with `keydiff.score`. From its queries, keys, values and output projection (f32) the engine's own measures
// are taken, and shown to the policies. A file without them (`lacake_golden_extract`) shows policies what its authors'
// code measured.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>

#include "attention/expected.h"
#include "cache/test_memory.h"
#include "engine/entry_measures.h"
#include "golden/golden_files.h"
#include "lacake/policy_author.h"
#include "policies/layer_defensive/defence.h"

namespace lacake {
namespace {

using golden::Archive;
using Lists = std::vector<std::vector<std::uint32_t>>;  // [n_layer * n_head_kv] kept tokens

// The README's tolerances.
constexpr double kRelative = 2e-5;
constexpr double kCosine = 1e-6;

std::vector<std::filesystem::path> case_files() {
  std::vector<std::filesystem::path> found;
  for (const auto& path : golden::files(".gguf")) {
    const Archive file(path);
    if (file.architecture() == "golden" && file.has("keydiff.score")) found.push_back(path);
  }
  return found;
}

// One file: the model's attention as the engine would have seen it when the prompt had passed a layer.
class Case {
 public:
  explicit Case(const std::filesystem::path& path)
      : data(path), n(data.size("n_tokens")), h_(described(data)), place_(1), workers_(place_), grams_(h_) {
    shape_ = {.d_k = h_.d_k,
              .d_v = h_.d_v,
              .group = h_.group(),
              .type_k = GGML_TYPE_F32,
              .type_v = GGML_TYPE_F32,
              .scale = (float)(1 / std::sqrt((double)h_.d_k))};
    scratch_.reserve(1, attention::prefill_scratch_bytes(shape_));
  }

  const Archive data;
  const std::size_t n;

  AttentionShape shape() const { return {h_.n_layer, h_.n_head, h_.n_head_kv}; }
  std::size_t n_layer() const { return (std::size_t)h_.n_layer; }
  std::size_t n_head_kv() const { return (std::size_t)h_.n_head_kv; }
  // Of a tensor [size, n_head_kv, n_layer], or [size, n_layer].
  template <class Number>
  std::span<const Number> of(std::span<const Number> all, std::size_t layer, std::size_t head) const {
    const std::size_t size = all.size() / (n_layer() * n_head_kv());
    return all.subspan((layer * n_head_kv() + head) * size, size);
  }

  // What is dropped, as the authors' code is told it.
  std::vector<std::string> shares() const {
    std::vector<std::string> all;
    for (const char* share : {"25", "10"}) {
      if (data.has_key("compression_ratio_" + std::string(share))) all.emplace_back(share);
    }
    return all;
  }
  double dropped(const std::string& share) const { return data.number("compression_ratio_" + share); }
  std::size_t kept_of_a_head(const std::string& share) const {
    return std::max<std::size_t>(1, (std::size_t)((double)n * (1 - dropped(share))));
  }

  bool has_inputs() const { return data.has("k"); }

  // Calls show(observation) as a session would be shown the layer after an exact prompt.
  //   scores  of Expected Attention, where the file has nothing else
  template <class Show>
  void observe(const Measures& asked, std::size_t layer, const Show& show, const std::string& scores = "ea.score") {
    if (!has_inputs()) return show_measured(asked, layer, show, scores);
    const CacheShape stored{.n_layer = h_.n_layer,
                            .n_head_kv = h_.n_head_kv,
                            .d_k = h_.d_k,
                            .d_v = h_.d_v,
                            .type_k = GGML_TYPE_F32,
                            .type_v = GGML_TYPE_F32};
    const Cache cache(stored, {}, stored.entry_bytes(), test_memory().pool, test_memory().mover);
    const std::size_t each = n * (std::size_t)h_.d_k * n_head_kv();
    const SegmentRows fresh{.k = (const std::byte*)(data.f32("k").data() + layer * each),
                            .v = (const std::byte*)(data.f32("v").data() + layer * each),
                            .capacity = n,
                            .n = n};
    const std::vector<float> record = recorded(layer, fresh, (std::size_t)asked.window);
    const Recording recording{
        .probabilities = asked.window > 0 ? record.data() : nullptr, .n_rows = (std::size_t)asked.window, .stride = n};

    EntryMeasures entries(h_, {&asked, 1}, n, false, 1);
    std::vector<float> memory(entries.floats());
    entries.place(memory.data());
    if (entries.wants_queries()) add_queries(entries, layer);
    entries.measure(
        {.layer = (int)layer, .cache = &cache, .shape = shape_, .fresh = fresh, .recording = recording},
        [&](int positions) { return turn(positions); }, [&] { return output(layer); }, grams_, workers_, scratch_);
    Observer observer;
    show(observer.observe(asked, cache,
                          {.layer = (int)layer,
                           .policy_layer = (int)layer,
                           .n_head = h_.n_head,
                           .n_new = n,
                           .recording = recording,
                           .fresh = fresh,
                           .entries = &entries}));
  }

  // What a policy keeps of the prompt.
  Lists kept(const std::string& policy, std::size_t cache_size, const std::string& scores) {
    const PolicySpec spec = PolicySpec::parse(policy);
    const auto made = spec.type->make(spec.settings, shape(), cache_size);
    class Edits final : public CacheEdits {
     public:
      explicit Edits(Lists& lists) : lists_(lists) {}
      void keep(int layer, Selection selection) override {
        const std::size_t n_heads = selection.heads.size();
        for (std::size_t head = 0; head < n_heads; ++head) {
          std::vector<std::uint32_t>& held = lists_[(std::size_t)layer * n_heads + head];
          std::vector<std::uint32_t> stay;
          for (const std::uint32_t i : selection.heads[head]) stay.push_back(held.at(i));
          held = stay;
        }
      }
      void drop(int, std::span<const std::uint32_t>) override { FAIL() << "a prompt"; }

     private:
      Lists& lists_;
    };
    Lists lists(n_layer() * n_head_kv());
    for (std::vector<std::uint32_t>& list : lists) {
      for (std::uint32_t i = 0; i < n; ++i) list.push_back(i);
    }
    Edits edits(lists);
    for (std::size_t layer = 0; layer < n_layer(); ++layer) {
      const Measures asked = made->measures(Phase::kPrefill, (int)layer, n, n);
      observe(
          asked, layer, [&](const Observation& seen) { made->update(seen, edits); }, scores);
    }
    return lists;
  }

  // What the authors' code kept, from a mask.
  Lists mask(const std::string& tensor) const {
    Lists lists;
    const auto all = data.i8(tensor);
    for (std::size_t list = 0; list < n_layer() * n_head_kv(); ++list) {
      std::vector<std::uint32_t>& kept = lists.emplace_back();
      for (std::uint32_t i = 0; i < n; ++i) {
        if (all[list * n + i] != 0) kept.push_back(i);
      }
    }
    return lists;
  }

 private:
  template <class Show>
  void show_measured(const Measures& asked, std::size_t layer, const Show& show, const std::string& scores) {
    Observation seen{.layer = (int)layer, .n_entries = n, .n_new = n};
    // [size, n_head_kv] of the layer, each column with zeros up to n.
    std::map<std::string, std::vector<float>> columns;
    const auto take = [&](const std::string& name) -> std::span<const float> {
      std::vector<float>& to = columns[name];
      to.assign(n * n_head_kv(), 0.0f);
      for (std::size_t head = 0; head < n_head_kv(); ++head) {
        std::ranges::copy(of(data.f32(name), layer, head), to.begin() + (std::ptrdiff_t)(head * n));
      }
      return to;
    };
    if (asked.key_similarity) {
      take("keydiff.score");
      for (float& x : columns["keydiff.score"]) x = -x;
      seen.key_similarity = columns["keydiff.score"];
    }
    if (asked.window > 0) {
      seen.window = asked.window;
      seen.window_mean = take("ldk.mean_attn");
      seen.window_peak = take("ldk.row_max");
      seen.value_norm = take("ldk.wov_norm");
    }
    if (asked.expected_positions > 0) {
      seen.expected = take(scores);
      seen.value_norm = columns["ones"] = std::vector<float>(n * n_head_kv(), 1.0f);
    }
    show(seen);
  }

  static Hyperparameters described(const Archive& data) {
    Hyperparameters h;
    h.n_layer = (int)data.number("n_layer");
    h.n_head = (int)data.number("n_head");
    h.n_head_kv = (int)data.number("n_head_kv");
    h.n_embd = (int)data.number("hidden");
    h.d_k = h.d_v = (int)data.number("head_dim");
    return h;
  }

  // Probabilities of the last `window` queries [n, window, n_head].
  std::vector<float> recorded(std::size_t layer, const SegmentRows& fresh, std::size_t window) {
    const std::size_t n_head = (std::size_t)h_.n_head, d = (std::size_t)h_.d_k, group = (std::size_t)h_.group();
    std::vector<float> record(n * window * n_head);
    if (window == 0) return record;
    const std::size_t n_rows = data.f32("q_last").size() / (n_layer() * n_head * d);
    EXPECT_LE(window, n_rows);
    std::vector<float> q(window * n_head * d), out(q.size());
    for (std::size_t head = 0; head < n_head; ++head) {
      for (std::size_t r = 0; r < window; ++r) {
        const std::size_t from = ((layer * n_head + head) * n_rows + n_rows - window + r) * d;
        std::copy_n(data.f32("q_last").data() + from, d, q.data() + (r * n_head + head) * d);
      }
    }
    for (std::size_t head = 0; head < n_head_kv(); ++head) {
      const std::size_t row = d * sizeof(float);
      attention::PrefillCall call{.shape = shape_,
                                  .fresh = {.k = fresh.k + head * n * row,
                                            .v = fresh.v + head * n * row,
                                            .k_stride = row,
                                            .v_stride = row,
                                            .n = n},
                                  .first = n - window,
                                  .n_q = window,
                                  .q = q.data() + head * group * d,
                                  .q_stride = n_head * d,
                                  .out = out.data() + head * group * d,
                                  .out_stride = n_head * d,
                                  .record = record.data() + head * group * window * n,
                                  .record_from = n - window,
                                  .record_rows = window};
      attention::prefill(call, scratch_.of(0));
    }
    return record;
  }

  // In the chunks of a pass.
  void add_queries(EntryMeasures& entries, std::size_t layer) const {
    const std::size_t d = (std::size_t)h_.d_k, n_head = (std::size_t)h_.n_head;
    for (std::size_t first = 0; first < n; first += 512) {
      const EntryMeasures::Queries chunk{.q = data.f32("q_pre").data() + (layer * n_head * n + first) * d,
                                         .head_stride = n * d,
                                         .token_stride = d,
                                         .n = std::min<std::size_t>(512, n - first),
                                         .first_token = (std::int64_t)first};
      for (std::size_t head = 0; head < n_head; ++head) entries.add_queries(chunk, head);
      entries.added(chunk);
    }
  }

  attention::Rope turn(int positions) {
    const std::size_t half = (std::size_t)h_.d_k / 2;
    std::vector<float> table;
    for (std::size_t p = n; p < n + (std::size_t)positions; ++p) {
      for (const bool sine : {false, true}) {
        for (std::size_t i = 0; i < half; ++i) {
          const double angle = (double)p * std::pow(data.number("rope_theta"), -(double)i / (double)half);
          table.push_back((float)(sine ? std::sin(angle) : std::cos(angle)));
        }
      }
    }
    mean_.resize(2 * half);
    attention::mean_rotation(table, 2 * half, mean_);
    return {.table = mean_.data(), .n_rot = h_.d_k, .neox = true};
  }

  OutputProjection output(std::size_t layer) const {
    const std::size_t n_in = (std::size_t)(h_.n_head * h_.d_v), n_out = (std::size_t)h_.n_embd;
    const float* w = data.f32("w_o").data() + layer * n_in * n_out;
    return {.n_in = n_in, .n_out = n_out, .read = [=](std::size_t row, float* out) {
              std::copy_n(w + row * n_in, n_in, out);
            }};
  }

  Hyperparameters h_;
  attention::Shape shape_;
  HostPlace place_;
  Workers workers_;
  OutputGrams grams_;
  attention::Scratch scratch_;
  std::vector<float> mean_;
};

void expect_relative(std::span<const float> expected, std::span<const float> found, const std::string& what) {
  ASSERT_LE(expected.size(), found.size()) << what;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], kRelative * std::abs(expected[i])) << what << " of entry " << i;
  }
}

class FrontierGolden : public testing::TestWithParam<std::filesystem::path> {
 protected:
  FrontierGolden() : file_(GetParam()) {}

  std::string at(std::size_t layer, std::size_t head) const {
    return "layer " + std::to_string(layer) + " head " + std::to_string(head);
  }
  void expect_kept(const std::string& tensor, const std::string& policy, std::size_t cache_size,
                   const std::string& scores = "ea.score") {
    if (!file_.data.has(tensor)) return;  // what is arbitrary by the authors' rule is not there
    ++n_sets_;
    const Lists expected = file_.mask(tensor), found = file_.kept(policy, cache_size, scores);
    for (std::size_t list = 0; list < expected.size(); ++list) {
      EXPECT_EQ(found[list], expected[list])
          << tensor << " " << at(list / file_.n_head_kv(), list % file_.n_head_kv()) << " by " << policy;
    }
  }

  Case file_;
  int n_sets_ = 0;
};

std::string name_of(const testing::TestParamInfo<std::filesystem::path>& info) { return info.param.stem().string(); }

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FrontierGolden);
INSTANTIATE_TEST_SUITE_P(, FrontierGolden, testing::ValuesIn(case_files()), name_of);

TEST_P(FrontierGolden, KeyDiffComparesWithTheMeanOfNormalisedKeys) {
  const auto expected = file_.data.f32("keydiff.score");
  for (std::size_t layer = 0; layer < file_.n_layer() && file_.has_inputs(); ++layer) {
    file_.observe({.key_similarity = true, .key_mean = KeyMean::kNormalised}, layer, [&](const Observation& seen) {
      for (std::size_t i = 0; i < seen.key_similarity.size(); ++i) {
        ASSERT_NEAR(-seen.key_similarity[i], expected[layer * seen.key_similarity.size() + i], kCosine);
      }
    });
  }
  for (const std::string& share : file_.shares()) {
    expect_kept("keydiff.kept_" + share, "keydiff:mean=normalised,window=0", file_.kept_of_a_head(share));
  }
  EXPECT_GT(n_sets_, 0);
}

TEST_P(FrontierGolden, ExpectedAttentionScoresAndKeepsAsItsAuthorsDo) {
  if (!file_.data.has("ea.score")) GTEST_SKIP() << "nothing of it in this file";
  const auto sinks = file_.data.size("ea.n_sink"), future = file_.data.size("ea.n_future_positions");
  const Measures asked{
      .value_norm = ValueNorm::kPlain, .expected_positions = (int)future, .expected_sinks = (int)sinks};
  for (const char* method : {"ea", "ea_eps"}) {
    const double epsilon = file_.data.number(method == std::string("ea") ? "ea.epsilon" : "ea_eps_ada.epsilon");
    const auto all = file_.data.f32(std::string(method) + ".score");
    for (std::size_t layer = 0; layer < file_.n_layer() && file_.has_inputs(); ++layer) {
      file_.observe(asked, layer, [&](const Observation& seen) {
        for (std::size_t head = 0; head < file_.n_head_kv(); ++head) {
          const auto expected = file_.of(all, layer, head);
          for (std::size_t i = sinks; i < file_.n; ++i) {
            const std::size_t entry = head * file_.n + i;
            const double score = (seen.expected[entry] + epsilon) * seen.value_norm[entry];
            ASSERT_NEAR(score, expected[i], kRelative * expected[i]) << method << " " << at(layer, head) << " " << i;
          }
        }
      });
    }
  }
  const std::string policy =
      "expected-attention:window=0,sinks=" + std::to_string(sinks) + ",future=" + std::to_string(future) + ",epsilon=";
  for (const std::string& share : file_.shares()) {
    const std::size_t kept = file_.kept_of_a_head(share);
    expect_kept("ea.kept_" + share, policy + std::to_string(file_.data.number("ea.epsilon")), kept);
    for (const std::string method : {"ea_ada", "ea_eps_ada"}) {
      // Theirs counts the sinks among what a head is sure of.
      const double alpha = file_.data.number(method + ".alpha_safeguard");
      const std::size_t safe = std::max<std::size_t>(1, (std::size_t)(alpha * (double)kept));
      const double floor = safe > sinks ? ((double)(safe - sinks) + 0.5) / (double)(kept - sinks) : 0;
      // What is scored already has it.
      const double epsilon = file_.has_inputs() ? file_.data.number(method + ".epsilon") : 0;
      expect_kept(method + ".kept_" + share,
                  policy + std::to_string(epsilon) + ",heads=adaptive,floor=" + std::to_string(floor), kept,
                  method == "ea_ada" ? "ea.score" : "ea_eps.score");
    }
  }
  EXPECT_GT(n_sets_, 0);
}

TEST_P(FrontierGolden, DefensiveKvScoresForcesAndKeepsAsItsAuthorsDo) {
  const auto window = file_.data.size("ldk.window_size");
  const std::size_t before = file_.n - window;
  const bool has_norms = file_.data.has("ldk.wov_norm");  // else of one head: what has to do with it alone
  const Measures asked{.window = (int)window,
                       .group_mean = true,
                       .window_peak = true,
                       .value_norm = has_norms ? ValueNorm::kOutputSum : ValueNorm::kNone};
  for (std::size_t layer = 0; layer < file_.n_layer(); ++layer) {
    file_.observe(asked, layer, [&](const Observation& seen) {
      std::vector<std::vector<float>> weights(file_.n_head_kv(), std::vector<float>(before));
      std::vector<defence::List> lists;
      for (std::size_t head = 0; head < file_.n_head_kv(); ++head) {
        const auto column = [&](std::span<const float> all) { return all.subspan(head * file_.n, before); };
        const auto theirs = [&](const char* name) { return file_.of(file_.data.f32(name), layer, head); };
        expect_relative(theirs("ldk.row_max"), column(seen.window_peak), "row_max " + at(layer, head));
        expect_relative(theirs("ldk.mean_attn"), column(seen.window_mean), "mean_attn " + at(layer, head));
        if (!has_norms) continue;
        expect_relative(theirs("ldk.wov_norm"), column(seen.value_norm), "wov_norm " + at(layer, head));
        for (std::size_t i = 0; i < before; ++i) {
          std::vector<float> norms;
          for (std::size_t k = 0; k < file_.n_head_kv(); ++k) norms.push_back(seen.value_norm[k * file_.n + i]);
          weights[head][i] = defence::part(norms, head);
        }
        expect_relative(theirs("ldk.wov_share"), weights[head], "wov_share " + at(layer, head));
        lists.push_back({column(seen.window_mean), column(seen.window_peak), weights[head], file_.n});
      }
      for (const std::string& share : has_norms ? file_.shares() : std::vector<std::string>()) {
        const auto cache_size = (std::size_t)std::lround((double)file_.n * (1 - file_.dropped(share)));
        const defence::Scored scored =
            defence::score_layer(lists, {.window = window, .forced = 0.9, .cache_size = cache_size, .guards = false});
        for (std::size_t head = 0; head < file_.n_head_kv(); ++head) {
          EXPECT_EQ(scored.n_forced[head], file_.of(file_.data.i32("ldk.forced_count_" + share), layer, head)[0])
              << at(layer, head);
          const auto forced = file_.of(file_.data.i8("ldk.forced_" + share), layer, head);
          for (std::size_t i = 0; i < before; ++i) {
            // An entry can have the largest score by itself.
            if (forced[i] == 0) continue;
            EXPECT_EQ(scored.lists[head][i], scored.best) << at(layer, head) << " " << i;
          }
          EXPECT_LE(
              std::count(scored.lists[head].begin(), scored.lists[head].begin() + (std::ptrdiff_t)before, scored.best),
              std::count(forced.begin(), forced.end(), 1) + 1);
          expect_relative(file_.of(file_.data.f32("ldk.score_" + share), layer, head), scored.lists[head],
                          "score_" + share + " " + at(layer, head));
        }
      }
    });
  }
  for (const std::string& share : file_.shares()) {
    const auto cache_size = (std::size_t)std::lround((double)file_.n * (1 - file_.dropped(share)));
    const std::string policy = "layer-defensive:guards=off,window=" + std::to_string(window) + ",heads=";
    expect_kept("ldk.kept_" + share, policy + "joint", cache_size);
    expect_kept("dk.kept_" + share, policy + "adaptive", cache_size);
  }
  EXPECT_EQ(n_sets_ > 0, has_norms);
}

// The cheap norm is that of the whole product.
TEST_P(FrontierGolden, LengthsAfterTheProjectionNeedNoProjection) {
  if (!file_.data.has("w_o")) GTEST_SKIP() << "the file has no projection";
  const std::size_t d = file_.data.size("head_dim"), n_head = file_.data.size("n_head"),
                    n_embd = file_.data.size("hidden");
  const auto w = file_.data.f32("w_o"), v = file_.data.f32("v");
  file_.observe({.value_norm = ValueNorm::kOutput}, 0, [&](const Observation& seen) {
    for (std::size_t head = 0; head < n_head; ++head) {
      for (std::size_t i = 0; i < file_.n; i += 17) {
        const float* value = v.data() + (head / (n_head / file_.n_head_kv()) * file_.n + i) * d;
        double square = 0;
        for (std::size_t o = 0; o < n_embd; ++o) {
          double product = 0;
          for (std::size_t c = 0; c < d; ++c) product += (double)w[o * n_head * d + head * d + c] * value[c];
          square += product * product;
        }
        EXPECT_NEAR(seen.value_norm[head * file_.n + i], std::sqrt(square), kRelative * std::sqrt(square));
      }
    }
  });
}

}  // namespace
}  // namespace lacake
