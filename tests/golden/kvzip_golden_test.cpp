// KVzip against the authors' code. Every `*.gguf` of architecture `golden` with `kvzip.chunk_size`: the ids of the
// repeat, scores from the repeat's queries and keys, and every kept set through the policy. An extract
// (tests/tools/kvzip_extract.py) has queries and keys of some heads only; kept sets then follow from its scores.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/measure.h"
#include "generation/repeat.h"
#include "golden/golden_files.h"
#include "lacake/policy_author.h"
#include "property/simulated_cache.h"

namespace lacake {
namespace {

using golden::Archive;
using simulation::PositionList;
using simulation::SimulatedCache;

constexpr double kRelative = 2e-5;  // the README's

struct Case {
  Archive data;
  std::string name;
  std::size_t n_layer, n_head, n_head_kv, group, d, n, prefix, n_chunks;
  std::size_t n_layer_there, n_head_there;  // of which there are queries and keys

  explicit Case(const std::filesystem::path& path)
      : data(path),
        name(path.filename().string()),
        n_layer(data.size("n_layer")),
        n_head(data.size("n_head")),
        n_head_kv(data.size("n_head_kv")),
        group(n_head / n_head_kv),
        d(data.size("head_dim")),
        n(data.size("n_tokens")),
        prefix(data.size("kvzip.prefix_length")),
        n_chunks(data.size("kvzip.n_chunks")),
        n_layer_there(data.has_key("extract.n_layer") ? data.size("extract.n_layer") : n_layer),
        n_head_there(data.has_key("extract.n_head_kv") ? data.size("extract.n_head_kv") : n_head_kv) {}

  bool is_whole() const { return n_layer_there == n_layer && n_head_there == n_head_kv; }
  std::string chunk(std::size_t c, const char* what) const { return "c" + std::to_string(c) + "." + what; }
  // Rows [n_rows, row] of one head of one layer.
  std::span<const float> rows(const std::string& tensor, std::size_t layer, std::size_t head, std::size_t n_heads,
                              std::size_t n_rows) const {
    return data.f32(tensor).subspan((layer * n_heads + head) * n_rows * d, n_rows * d);
  }
  AttentionShape shape() const { return {(int)n_layer, (int)n_head, (int)n_head_kv}; }
};

std::vector<std::filesystem::path> case_files() {
  std::vector<std::filesystem::path> found;
  for (const auto& path : golden::files(".gguf")) {
    const Archive file(path);
    if (file.architecture() == "golden" && file.has_key("kvzip.chunk_size")) found.push_back(path);
  }
  return found;
}

void append_bytes(std::vector<Token>& to, const std::string& text) {
  for (const char c : text) to.push_back((unsigned char)c);
}

TEST(KvZipGolden, TheModelIsToldToRepeatInTheAuthorsWords) {
  const auto paths = case_files();
  EXPECT_FALSE(paths.empty()) << golden::folder();
  for (const auto& path : paths) {
    const Case c(path);
    SCOPED_TRACE(c.name);
    RepeatFrame frame;
    append_bytes(frame.first, kRepeatFirst);
    append_bytes(frame.later, kRepeatLater);
    append_bytes(frame.turn, c.data.text("kvzip.text_suffix"));
    const auto ids = c.data.i32("ids");
    const std::vector<Probe> probes =
        repeat_probes(ids, {.first = c.prefix, .last = c.n}, c.data.size("kvzip.chunk_size"), frame);
    ASSERT_EQ(probes.size(), c.n_chunks);
    for (std::size_t i = 0; i < c.n_chunks; ++i) {
      const auto expected = c.data.i32(c.chunk(i, "ids")), range = c.data.i32(c.chunk(i, "range"));
      EXPECT_EQ(probes[i].tokens, std::vector<Token>(expected.begin(), expected.end()));
      EXPECT_EQ(probes[i].first, (std::size_t)range[0]);
      EXPECT_EQ(probes[i].last, (std::size_t)range[1]);
    }
  }
}

// How a score is taken: `most_sinks` of the first entries are seen, as far as they stand before the chunk.
struct Way {
  std::size_t most_sinks = 0;
  bool plus = false;
};

// |W_O v| of every entry, for one query head.
std::vector<double> output_sizes(const Case& c, std::size_t layer, std::size_t head) {
  const std::size_t width = c.data.row_size("w_o"), hidden = c.data.size("hidden");
  const auto w = c.data.f32("w_o").subspan(layer * hidden * width, hidden * width);
  const auto v = c.rows("v", layer, head / c.group, c.n_head_there, c.n);
  std::vector<double> sizes;
  for (std::size_t i = 0; i < c.n; ++i) {
    double squares = 0;
    for (std::size_t row = 0; row < hidden; ++row) {
      double sum = 0;
      for (std::size_t x = 0; x < c.d; ++x) sum += (double)w[row * width + head * c.d + x] * v[i * c.d + x];
      squares += sum * sum;
    }
    sizes.push_back(std::sqrt(squares));
  }
  return sizes;
}

// Scores of one KV head's entries; 0 for those of a prefix.
std::vector<float> measured(const Case& c, std::size_t layer, std::size_t head, const Way& way) {
  std::vector<float> scores(c.n, 0.0f);
  const attention::Shape shape{.d_k = (int)c.d,
                               .d_v = (int)c.d,
                               .group = (int)c.group,
                               .type_k = GGML_TYPE_F32,
                               .type_v = GGML_TYPE_F32,
                               .scale = 1.0f / std::sqrt((float)c.d)};
  for (std::size_t chunk = 0; chunk < c.n_chunks; ++chunk) {
    const auto range = c.data.i32(c.chunk(chunk, "range"));
    const std::size_t m = c.data.i32(c.chunk(chunk, "ids")).size(), first = (std::size_t)range[0];
    const attention::Repeat repeat{
        .first = first, .last = (std::size_t)range[1], .own = c.n, .n_fresh_sinks = std::min(way.most_sinks, first)};
    const auto text = c.rows("k", layer, head, c.n_head_there, c.n);
    const auto own = c.rows(c.chunk(chunk, "k"), layer, head, c.n_head_there, m);
    std::vector<float> keys(text.begin(), text.end());
    keys.insert(keys.end(), own.begin(), own.end());
    std::vector<float> queries(m * c.group * c.d);
    for (std::size_t g = 0; g < c.group; ++g) {
      const auto of_head = c.rows(c.chunk(chunk, "q"), layer, head * c.group + g, c.n_head_there * c.group, m);
      for (std::size_t j = 0; j < m; ++j) {
        std::copy_n(of_head.begin() + (std::ptrdiff_t)(j * c.d), c.d, queries.data() + (j * c.group + g) * c.d);
      }
    }
    const attention::PrefillCall call{
        .shape = shape,
        .fresh = {.k = keys.data(), .v = keys.data(), .k_stride = c.d * 4, .v_stride = c.d * 4, .n = c.n + m},
        .first = c.n,
        .n_q = m,
        .q = queries.data(),
        .q_stride = c.group * c.d};
    std::vector<std::byte> scratch(attention::prefill_scratch(shape, m) + attention::accumulate_scratch(shape) + 64);
    std::vector<float> norms(m * c.group), peaks((c.n + m) * c.group, -1e30f);
    attention::repeat_norms(call, repeat, norms.data(), scratch);
    if (way.plus) {
      const auto sizes = c.data.f32(c.chunk(chunk, "hidden_norm")).subspan(layer * m, m);
      for (std::size_t i = 0; i < norms.size(); ++i) norms[i] += std::log2(sizes[i / c.group]);
    }
    attention::raise_peaks(call, {&call.fresh, repeat.first, repeat.last - repeat.first, repeat.first}, norms.data(),
                           peaks.data(), scratch);
    for (std::size_t g = 0; g < c.group; ++g) {
      const std::vector<double> sizes =
          way.plus ? output_sizes(c, layer, head * c.group + g) : std::vector<double>(c.n, 1.0);
      for (std::size_t i = repeat.first; i < repeat.last; ++i) {
        const auto score = (float)(sizes[i] * std::exp2((double)peaks[g * (c.n + m) + i]));
        scores[i] = std::max(scores[i], score);
      }
    }
  }
  return scores;
}

// Scores of everything [n_layer][n_head_kv * n], measured where queries are there and otherwise the file's; those
// measured are compared first.
std::vector<std::vector<float>> scores_of(const Case& c, const std::string& tensor, std::size_t skipped,
                                          const Way& way) {
  const auto expected = c.data.f32(tensor);
  const std::size_t n = c.n - skipped;
  std::vector<std::vector<float>> all(c.n_layer, std::vector<float>(c.n_head_kv * c.n, 0.0f));
  for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
    for (std::size_t head = 0; head < c.n_head_kv; ++head) {
      SCOPED_TRACE(tensor + " layer " + std::to_string(layer) + " head " + std::to_string(head));
      const auto of_head = expected.subspan((layer * c.n_head_kv + head) * n, n);
      float* to = all[layer].data() + head * c.n;
      std::copy(of_head.begin(), of_head.end(), to + skipped);
      if (layer < c.n_layer_there && head < c.n_head_there) {
        const std::vector<float> scores = measured(c, layer, head, way);
        for (std::size_t i = 0; i < n; ++i) {
          EXPECT_NEAR(scores[skipped + i], of_head[i], kRelative * of_head[i]) << i;
        }
        std::copy(scores.begin(), scores.end(), to);
      }
      std::fill_n(to, c.prefix, -1.0f);  // nobody repeats them
    }
  }
  return all;
}

// Feeds the text to the policy, shown these scores, and expects the entries of a mask [n_layer, n_head_kv, n -
// skipped], and all that were skipped.
void expect_kept(const Case& c, const std::string& tensor, std::size_t skipped, const std::string& policy, bool joint,
                 const std::vector<std::vector<float>>& scores) {
  SCOPED_TRACE(tensor);
  const auto mask = c.data.i8(tensor);
  const auto n_kept = (std::size_t)std::count(mask.begin(), mask.end(), 1) + skipped * c.n_layer * c.n_head_kv;
  // The authors round to single entries, a budget is in entries of all heads.
  const std::size_t wholes = joint ? c.n_layer * c.n_head_kv : c.n_head_kv;
  const std::size_t in_whole = joint ? n_kept : n_kept / c.n_layer, size = (in_whole + wholes - 1) / wholes;
  PolicySpec spec = PolicySpec::parse("kvzip:window=0,floor=0,prefix=drop," + policy);
  spec.settings["spare"] = size * wholes - in_whole;
  const auto made = spec.type->make(spec.settings, c.shape(), size);
  SimulatedCache cache(c.shape(), made->traits());
  cache.feed(*made, Phase::kPrefill, c.n,
             [&](int layer, std::size_t, std::size_t) { return scores[(std::size_t)layer]; });
  for (std::size_t layer = 0; layer < c.n_layer; ++layer) {
    for (std::size_t head = 0; head < c.n_head_kv; ++head) {
      PositionList expected;
      for (std::size_t i = 0; i < skipped; ++i) expected.push_back((std::int64_t)i);
      for (std::size_t i = skipped; i < c.n; ++i) {
        if (mask[(layer * c.n_head_kv + head) * (c.n - skipped) + i - skipped]) expected.push_back((std::int64_t)i);
      }
      EXPECT_EQ(cache.held((int)layer, (int)head), expected) << "layer " << layer << " head " << head;
    }
  }
}

TEST(KvZipGolden, ScoresAndKeptEntriesAreThoseOfKvpress) {
  for (const auto& path : case_files()) {
    const Case c(path);
    SCOPED_TRACE(c.name);
    for (const bool plus : {false, true}) {
      const std::string method = plus ? "kvzip_plus" : "kvzip";
      const auto scores = scores_of(c, method + ".score", 0, {c.data.size("kvzip.n_sink"), plus});
      for (const char* share : {"25", "10"}) {
        expect_kept(c, method + ".kept_pair_" + share, 0, "heads=joint,sinks=4", true, scores);
        expect_kept(c, method + ".kept_layer_" + share, 0, "heads=adaptive,sinks=4", false, scores);
      }
    }
  }
}

// The prefix stays and is what every softmax sees beside the chunk.
TEST(KvZipGolden, ScoresAndKeptEntriesAreThoseOfTheOriginal) {
  for (const auto& path : case_files()) {
    const Case c(path);
    SCOPED_TRACE(c.name);
    const auto scores = scores_of(c, "kvzip_orig.score", c.prefix, {c.prefix, false});
    const std::string sinks = ",sinks=" + std::to_string(c.prefix);
    for (const char* share : {"25", "10"}) {
      expect_kept(c, std::string("kvzip_orig.kept_pair_") + share, c.prefix, "heads=joint" + sinks, true, scores);
      expect_kept(c, std::string("kvzip_orig.kept_uniform_") + share, c.prefix, "heads=even" + sinks, false, scores);
    }
  }
}

}  // namespace
}  // namespace lacake
