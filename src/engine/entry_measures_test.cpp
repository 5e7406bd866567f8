// What a prompt's entries are measured by beside recorded attention, as policies are shown it.

#include "engine/entry_measures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "attention/measure.h"
#include "attention/row.h"
#include "engine/prefill_job.h"
#include "engine/session_state.h"
#include "engine/test_session.h"
#include "lacake/policy_author.h"
#include "models/tiny_adapter.h"
#include "policies/pinned.h"

namespace lacake {
namespace {

struct Shown {
  std::size_t n_entries = 0;
  std::vector<float> norm, peak, expected, mean;
  bool operator==(const Shown&) const = default;
};
using Log = std::vector<Shown>;  // by segment and layer

// Keeps the first `n_kept` entries of what it has after each segment, and writes down what it sees.
class Watcher final : public Policy {
 public:
  Watcher(const Measures& asked, Positions positions, std::size_t n_kept, Log& log)
      : asked_(asked), n_kept_(n_kept), log_(log) {
    traits_.positions = positions;
  }
  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int, std::size_t, std::size_t) const override { return asked_; }
  void update(const Observation& seen, CacheEdits& edits) override {
    const auto copy = [](std::span<const float> all) { return std::vector<float>(all.begin(), all.end()); };
    log_.push_back(
        {seen.n_entries, copy(seen.value_norm), copy(seen.window_peak), copy(seen.expected), copy(seen.window_mean)});
    if (seen.n_entries <= n_kept_) return;
    std::vector<std::uint32_t> keep(n_kept_);
    std::iota(keep.begin(), keep.end(), 0u);
    keep.back() = (std::uint32_t)seen.n_entries - 1;
    edits.keep(seen.layer, {{keep}});
  }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override {
    return std::min(n_held + n_new, n_kept_);
  }
  std::size_t reserve(int, int) const override { return n_kept_ + 1; }
  void resize(std::size_t, CacheEdits&) override {}
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Watcher>(*this); }
  void visit(PolicyFields&) override {}

 private:
  Measures asked_;
  PolicyTraits traits_;
  std::size_t n_kept_;
  Log& log_;
};

SessionOptions watching(const Measures& asked, Log& log, PrefillMode mode = PrefillMode::kExact,
                        Positions positions = Positions::kOriginal, std::size_t n_kept = 2000) {
  PolicyType type{.name = "watcher",
                  .summary = "writes down what it sees",
                  .max_entries_per_layer = [](const auto&, const auto&, std::size_t c) { return c + 1; },
                  .min_cache_size = [](const auto&, const auto&) { return std::size_t{1}; },
                  .make = [=, &log](const auto&, const auto&, std::size_t) -> std::unique_ptr<Policy> {
                    return std::make_unique<Watcher>(asked, positions, n_kept, log);
                  }};
  SessionOptions o = with("streaming-llm", std::to_string(n_kept + 1), "f32", mode, 600, 100);
  o.policy.type = std::make_shared<PolicyType>(std::move(type));
  return o;
}

constexpr Measures kAll{.window = 8, .window_peak = true, .value_norm = ValueNorm::kOutput, .expected_positions = 64};

TinyModel model() {
  TinyModel tiny = small();
  tiny.n_ctx_train = 4096;
  return tiny;
}

// A matrix of the model's file, f32: rows of `n_in`.
std::vector<float> matrix(const ModelFile& file, const std::string& name) {
  ggml_context* tensors = nullptr;
  const gguf_context_ptr gguf(gguf_init_from_file(file.path().c_str(), {.no_alloc = false, .ctx = &tensors}));
  const ggml_context_ptr context(tensors);
  const ggml_tensor* t = ggml_get_tensor(tensors, name.c_str());
  return {(const float*)t->data, (const float*)t->data + ggml_nelements(t)};
}

const float* key_row(const Session& s, int layer, int head, std::size_t i) {
  const Cache& cache = s.state().cache();
  const attention::Rows rows = cache.rows(layer, head);
  return (const float*)((const std::byte*)rows.k + cache.slots(layer, head)[i] * rows.k_stride);
}
const float* value_row(const Session& s, int layer, int head, std::size_t i) {
  const Cache& cache = s.state().cache();
  const attention::Rows rows = cache.rows(layer, head);
  return (const float*)((const std::byte*)rows.v + cache.slots(layer, head)[i] * rows.v_stride);
}

TEST(ValueNorms, AreThoseOfTheCachesValuesBehindTheOutputProjection) {
  Loaded loaded(model());
  const Tokens tokens = random_tokens(loaded.tiny, 70, 1);
  const int n_head = 4, group = 2, d = 8, n_embd = 16;
  for (const ValueNorm kind : {ValueNorm::kPlain, ValueNorm::kOutput, ValueNorm::kOutputSum}) {
    for (const bool mean : {false, true}) {
      SCOPED_TRACE(testing::Message() << "kind " << (int)kind << " mean " << mean);
      Log log;
      const auto s = loaded.engine.open(watching({.group_mean = mean, .value_norm = kind}, log));
      s->prefill(tokens);
      for (int layer = 0; layer < 4; ++layer) {
        const std::vector<float> w = matrix(loaded.file, "blk." + std::to_string(layer) + ".attn_output.weight");
        const auto norm = [&](int head, std::size_t i) {
          const float* v = value_row(*s, layer, head / group, i);
          double sum = 0, squares = 0;
          for (int o = 0; o < n_embd; ++o) {
            double product = 0;
            for (int c = 0; c < d; ++c) product += (double)w[(std::size_t)((o * n_head + head) * d + c)] * v[c];
            sum += std::abs(product), squares += product * product;
          }
          if (kind == ValueNorm::kOutput) return std::sqrt(squares);
          if (kind == ValueNorm::kOutputSum) return sum;
          return std::sqrt(std::inner_product(v, v + d, v, 0.0));
        };
        const bool by_kv_head = mean || kind == ValueNorm::kPlain;
        const std::vector<float>& shown = log[(std::size_t)layer].norm;
        ASSERT_EQ(shown.size(), 70u * (by_kv_head ? 2 : 4));
        for (std::size_t i = 0; i < 70; ++i) {
          for (int column = 0; column < (by_kv_head ? 2 : 4); ++column) {
            const double expected = !by_kv_head ? norm(column, i) : (norm(2 * column, i) + norm(2 * column + 1, i)) / 2;
            EXPECT_NEAR(shown[(std::size_t)column * 70 + i], expected, 1e-5 * expected) << layer << " " << i;
          }
        }
      }
    }
  }
}

TEST(ValueNorms, CountWhatAnAdapterAddsToTheProjection) {
  const TinyModel tiny = model();
  const ModelFile file(tiny);
  const models::AdapterFile adapter(file.path());
  const Model model(file.path(), {.loras = {{adapter.path(), 1.0}}});
  Engine engine(model, {.threads = 1});
  const Tokens tokens = random_tokens(tiny, 40, 1);
  Log length;
  const auto a = engine.open(watching({.value_norm = ValueNorm::kOutput}, length));
  a->prefill(tokens);
  const LoadedModel& loaded = engine.state().model;
  const OutputProjection output = output_projection(loaded, 0);
  const std::vector<float> w = matrix(file, "blk.0.attn_output.weight");
  std::vector<float> row(output.n_in);
  float most = 0;
  for (std::size_t o = 0; o < output.n_out; ++o) {
    output.read(o, row.data());
    for (std::size_t c = 0; c < row.size(); ++c) most = std::max(most, std::abs(row[c] - w[o * row.size() + c]));
  }
  EXPECT_GT(most, 1e-3f);
  // Of one value: the projection as it was read.
  const float* v = value_row(*a, 0, 0, 7);
  double squares = 0;
  for (std::size_t o = 0; o < output.n_out; ++o) {
    output.read(o, row.data());
    const double product = std::inner_product(v, v + 8, row.data(), 0.0);
    squares += product * product;
  }
  EXPECT_NEAR(length[0].norm[7], std::sqrt(squares), 1e-5 * std::sqrt(squares));
}

// Packed for our products, in the backend's order, or as the file has it.
TEST(OutputProjection, IsReadWhateverTypeAndFormItIsKeptIn) {
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1}) {
    for (const char* product : {"auto", "ggml", "f32"}) {
      SCOPED_TRACE(testing::Message() << ggml_type_name(type) << " " << product);
      TinyModel tiny = wide();
      tiny.weights = type;
      Loaded loaded(tiny, 1, product);
      ggml_context* tensors = nullptr;
      const gguf_context_ptr gguf(
          gguf_init_from_file(loaded.file.path().c_str(), {.no_alloc = false, .ctx = &tensors}));
      const ggml_context_ptr context(tensors);
      const ggml_tensor* w = ggml_get_tensor(tensors, "blk.1.attn_output.weight");
      const OutputProjection output = output_projection(loaded.engine.state().model, 1);
      ASSERT_EQ(output.n_in, (std::size_t)w->ne[0]);
      std::vector<float> expected(output.n_in), found(output.n_in);
      for (std::size_t row = 0; row < output.n_out; ++row) {
        attention::load_row((const char*)w->data + row * w->nb[1], (int)output.n_in, type, expected.data());
        output.read(row, found.data());
        EXPECT_LT(distance(expected, found), 1e-6f) << row;
      }
    }
  }
}

// The whole way in layer 0, by the formula: queries from the embedding, keys from the cache.
TEST(ExpectedAttention, IsThatOfTheFormula) {
  Loaded loaded(model());
  const std::size_t n = 600, d = 8, n_embd = 16, sinks = 4, positions = 64;
  const Tokens tokens = random_tokens(loaded.tiny, n, 2);
  Log log;
  const auto s =
      loaded.engine.open(watching({.expected_positions = (int)positions, .expected_sinks = (int)sinks}, log));
  s->prefill(tokens);

  const auto embedding = matrix(loaded.file, "token_embd.weight"), weight = matrix(loaded.file, "blk.0.attn_q.weight"),
             norm = matrix(loaded.file, "blk.0.attn_norm.weight");
  const double epsilon = loaded.engine.state().model.hyperparameters.rms_epsilon;
  std::vector<double> expected(n * 2);
  for (std::size_t head = 0; head < 4; ++head) {
    std::vector<double> queries(n * d);
    for (std::size_t j = 0; j < n; ++j) {
      const float* x = embedding.data() + (std::size_t)tokens[j] * n_embd;
      const double square = std::inner_product(x, x + n_embd, x, 0.0) / (double)n_embd;
      for (std::size_t c = 0; c < d; ++c) {
        for (std::size_t e = 0; e < n_embd; ++e) {
          queries[j * d + c] += weight[(head * d + c) * n_embd + e] * norm[e] * x[e] / std::sqrt(square + epsilon);
        }
      }
    }
    // Each query turned to each of the positions is a sample of what is to come: by linearity only the mean rotation
    // counts.
    std::vector<double> turn(d);  // cosine, sine of each pair
    for (std::size_t p = n; p < n + positions; ++p) {
      for (std::size_t i = 0; i < d / 2; ++i) {
        const double angle = (double)p * std::pow(10000.0, -2.0 * (double)i / (double)d);
        turn[2 * i] += std::cos(angle) / (double)positions;
        turn[2 * i + 1] += std::sin(angle) / (double)positions;
      }
    }
    std::vector<double> mean(d);
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t i = 0; i < d / 2; ++i) {
        double &a = queries[j * d + 2 * i], &b = queries[j * d + 2 * i + 1];
        const double turned = a * turn[2 * i] - b * turn[2 * i + 1];
        b = a * turn[2 * i + 1] + b * turn[2 * i];
        a = turned;
      }
      for (std::size_t c = 0; c < d && j >= sinks; ++c) mean[c] += queries[j * d + c] / (double)(n - sinks);
    }
    std::vector<double> logits(n);
    double sum = 0;
    for (std::size_t i = sinks; i < n; ++i) {
      const float* key = key_row(*s, 0, (int)head / 2, i);
      double variance = 0;
      for (std::size_t j = sinks; j < n; ++j) {
        double off = 0;
        for (std::size_t c = 0; c < d; ++c) off += (queries[j * d + c] - mean[c]) * key[c];
        variance += off * off / (double)(n - sinks);
      }
      logits[i] = std::exp(std::inner_product(key, key + d, mean.begin(), 0.0) / std::sqrt((double)d) +
                           variance / (2 * (double)d));
      sum += logits[i];
    }
    for (std::size_t i = sinks; i < n; ++i) expected[head / 2 * n + i] += logits[i] / sum / 2;
  }
  ASSERT_EQ(log[0].expected.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(log[0].expected[i], expected[i], 1e-4 * expected[i]) << i;
  }
}

TEST(WindowPeak, OfOneRowIsThatRowPooled) {
  Loaded loaded(model());
  Log log;
  const auto s = loaded.engine.open(watching({.window = 1, .window_peak = true}, log));
  s->prefill(random_tokens(loaded.tiny, 50, 3));
  for (const Shown& layer : log) {
    for (std::size_t kv = 0; kv < 2; ++kv) {
      std::vector<float> peak(49);
      for (std::size_t h = 2 * kv; h < 2 * kv + 2; ++h) {
        attention::raise_to_pooled(std::span(layer.mean).subspan(h * 50, 49), peak);
      }
      peak.push_back(0);
      EXPECT_TRUE(same_bits(peak, std::span(layer.peak).subspan(kv * 50, 50)));
    }
  }
}

TEST(EntryMeasures, AreTheSameOnAnyNumberOfThreadsAndForAnyCompany) {
  const TinyModel tiny = model();
  const Tokens tokens = random_tokens(tiny, 540, 4);
  Log alone;
  {
    Loaded loaded(tiny);
    loaded.engine.open(watching(kAll, alone))->prefill(tokens);
  }
  Loaded loaded(tiny, 2);
  Log first, second, other, wider;
  Measures more = kAll;
  more.window = 12;
  more.expected_sinks = 0;
  const auto a = loaded.engine.open(watching(kAll, first)), b = loaded.engine.open(watching(kAll, second)),
             c = loaded.engine.open(watching({.value_norm = ValueNorm::kOutputSum, .expected_positions = 9}, other)),
             e = loaded.engine.open(watching(more, wider));
  Session* const all[] = {c.get(), a.get(), e.get(), b.get()};
  EXPECT_TRUE(loaded.engine.prefill(all, tokens));
  EXPECT_EQ(first, alone);
  EXPECT_EQ(second, alone);
  EXPECT_NE(wider[0].peak, alone[0].peak);
  EXPECT_EQ(wider[0].norm, alone[0].norm);
  EXPECT_GT(wider[0].expected[0], 0.0f);
  EXPECT_EQ(alone[0].expected[3], 0.0f);
  EXPECT_NE(other[0].norm, alone[0].norm);
}

// Entries of a second turn: values weigh what they weighed before, in stored order whatever their slots.
TEST(EntryMeasures, OfALaterTurnAreInStoredOrder) {
  Loaded loaded(model());
  for (const Positions positions : {Positions::kOriginal, Positions::kCompacted}) {
    for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming}) {
      Log log;
      const auto s = loaded.engine.open(watching(kAll, log, mode, positions, 60));
      const Tokens tokens = random_tokens(loaded.tiny, 90, 5);
      s->prefill(std::span(tokens).first(40));
      s->prefill(std::span(tokens).subspan(40, 30));  // 70: the last of the first 60 stays
      s->prefill(std::span(tokens).subspan(70));
      ASSERT_GE(log.size(), 12u);
      const Shown &before = log[log.size() - 8], &after = log[log.size() - 4];  // of layer 0
      ASSERT_EQ(after.n_entries, 80u);
      for (std::size_t head = 0; head < 4; ++head) {
        const float *old = before.norm.data() + head * before.n_entries, *now = after.norm.data() + head * 80;
        EXPECT_TRUE(same_bits({old, 59}, {now, 59}));
        EXPECT_EQ(old[before.n_entries - 1], now[59]);
      }
      EXPECT_EQ(after.peak[72], 0.0f);
      EXPECT_GT(after.peak[71], 0.0f);
      EXPECT_NEAR(std::accumulate(after.expected.begin(), after.expected.begin() + 80, 0.0), 1.0, 1e-5);
    }
  }
}

TEST(EntryMeasures, OfAFirstPromptAreTheSameForKeysThatAreStoredUnrotated) {
  Loaded loaded(model());
  const Tokens tokens = random_tokens(loaded.tiny, 120, 6);
  Log original, compacted;
  loaded.engine.open(watching(kAll, original))->prefill(tokens);
  loaded.engine.open(watching(kAll, compacted, PrefillMode::kExact, Positions::kCompacted))->prefill(tokens);
  EXPECT_EQ(original, compacted);
}

// A probe's queries alone are learnt from, its own keys are no entries.
TEST(EntryMeasures, OfAProbeAreOfItsQueriesOverTheTextsEntries) {
  Loaded loaded(model());
  const Tokens tokens = random_tokens(loaded.tiny, 90, 7);
  Log plain, probed;
  loaded.engine.open(watching(kAll, plain))->prefill(std::span(tokens).first(60));
  loaded.engine.open(watching(kAll, probed))
      ->prefill(std::span(tokens).first(60), {.probes = {{.tokens = {tokens.begin() + 60, tokens.end()}}}});
  for (std::size_t layer = 0; layer < plain.size(); ++layer) {
    ASSERT_EQ(probed[layer].n_entries, 60u);
    EXPECT_EQ(probed[layer].norm, plain[layer].norm);
    EXPECT_GT(probed[layer].peak[59], 0.0f);
    EXPECT_NE(probed[layer].expected, plain[layer].expected);
    EXPECT_NEAR(std::accumulate(probed[layer].expected.begin(), probed[layer].expected.begin() + 60, 0.0), 1.0, 1e-5);
  }
}

// To the policy behind pinned tokens the conversation begins there: they are no rows, and its sinks come after them.
TEST(EntryMeasures, BehindPinnedTokensAreThoseOfTheOtherEntries) {
  Loaded loaded(model());
  const Tokens tokens = random_tokens(loaded.tiny, 80, 10);
  Measures all = kAll;
  all.expected_sinks = kAll.expected_sinks + 6;
  Log whole, behind;
  loaded.engine.open(watching(all, whole))->prefill(tokens);
  SessionOptions o = watching(kAll, behind);
  o.policy.type = std::make_shared<PolicyType>(with_pinned(*o.policy.type));
  o.policy.settings["pinned"] = 6;
  o.budget = Budget::parse("2010");  // of which the watcher knows nothing
  loaded.engine.open(o)->prefill(tokens);
  ASSERT_EQ(whole.size(), behind.size());
  for (std::size_t layer = 0; layer < whole.size(); ++layer) {
    ASSERT_EQ(behind[layer].n_entries, 74u);
    const auto expect_columns = [&](const std::vector<float>& of_all, const std::vector<float>& of_some) {
      ASSERT_EQ(of_all.size() / 80 * 74, of_some.size());
      for (std::size_t i = 0; i < of_some.size(); ++i) EXPECT_EQ(of_some[i], of_all[i / 74 * 80 + 6 + i % 74]) << i;
    };
    expect_columns(whole[layer].norm, behind[layer].norm);
    expect_columns(whole[layer].peak, behind[layer].peak);
    expect_columns(whole[layer].expected, behind[layer].expected);
  }
}

// Entries of few bits are stored mixed (attention/mix.h): what is measured of them is not.
TEST(EntryMeasures, AreOfEntriesAsTheyWereWhateverTheyAreStoredAs) {
  Loaded loaded(wide());
  const Tokens tokens = random_tokens(loaded.tiny, 100, 11);
  for (const Positions positions : {Positions::kOriginal, Positions::kCompacted}) {
    Log exact, rounded;
    for (const bool few_bits : {false, true}) {
      SessionOptions o = watching(kAll, few_bits ? rounded : exact, PrefillMode::kExact, positions, 60);
      if (few_bits) o.types = CacheTypes::parse("q5_1");
      const auto s = loaded.engine.open(o);
      s->prefill(std::span(tokens).first(60));
      s->prefill(std::span(tokens).subspan(60));
    }
    ASSERT_EQ(exact.size(), rounded.size());
    const auto off = [](const std::vector<float>& a, const std::vector<float>& b) {
      float sum = 0, difference = 0;
      for (std::size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i]), difference += std::abs(a[i] - b[i]);
      return difference / sum;
    };
    for (const std::size_t i : {0, 3}) {  // layer 0 of both prompts, which see the same queries
      EXPECT_LT(off(exact[i].norm, rounded[i].norm), 0.03f);
      EXPECT_LT(off(exact[i].expected, rounded[i].expected), 0.2f);
    }
  }
}

TEST(EntryMeasures, ShowNothingExpectedWhereThereWasNoQueryToLearnFrom) {
  Loaded loaded(model());
  Log log;
  const auto s = loaded.engine.open(watching(kAll, log));
  const Tokens tokens = random_tokens(loaded.tiny, 10, 8);
  s->prefill(std::span(tokens).first(4));
  EXPECT_TRUE(log[0].expected.empty());
  EXPECT_FALSE(log[0].norm.empty());
  s->prefill(std::span(tokens).subspan(4));
  EXPECT_EQ(log[4].expected.size(), 20u);
  s->step(3);
  EXPECT_TRUE(log.back().norm.empty() && log.back().peak.empty() && log.back().expected.empty());
}

TEST(EntryMeasures, TakeTheMemoryThatWasPlanned) {
  for (const ValueNorm norm : {ValueNorm::kPlain, ValueNorm::kOutput, ValueNorm::kOutputSum}) {
    Loaded loaded(model());
    Measures asked = kAll;
    asked.value_norm = norm;
    Log log;
    SessionOptions o = watching(asked, log);
    const SessionPlan plan = loaded.engine.plan(o);
    const auto s = loaded.engine.open(o);
    Session* const reads[] = {s.get()};
    std::uint64_t workspace = 0;
    PrefillJob::State job(loaded.engine.state(), reads, random_tokens(loaded.tiny, 600, 9), {});
    while (job.advance()) workspace = std::max(workspace, job.memory().workspace.bytes());
    EXPECT_EQ(plan.memory.layer_workspace, workspace);
    const std::uint64_t grams = loaded.engine.state().output_grams.bytes();
    EXPECT_EQ(grams, norm == ValueNorm::kOutput ? 4u * 4 * 8 * 8 * 4 : 0u);
    EXPECT_GE(plan.memory.compute, loaded.engine.state().place.graph_bytes() + grams);
  }
}

TEST(WindowPeak, IsShownAloneWhereNoMeanIsWanted) {
  Loaded loaded(model());
  Log with_mean, alone;
  const std::vector<Token> tokens = random_tokens(loaded.tiny, 50, 3);
  loaded.engine.open(watching({.window = 8, .window_peak = true}, with_mean))->prefill(tokens);
  loaded.engine.open(watching({.window = 8, .window_peak = true, .window_mean = false}, alone))->prefill(tokens);
  for (std::size_t layer = 0; layer < alone.size(); ++layer) {
    EXPECT_TRUE(alone[layer].mean.empty());
    EXPECT_FALSE(alone[layer].peak.empty());
    EXPECT_TRUE(same_bits(alone[layer].peak, with_mean[layer].peak));
  }
}

}  // namespace
}  // namespace lacake
