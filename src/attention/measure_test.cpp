#include "attention/measure.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/row.h"
#include "attention/test_lane.h"

namespace lacake::attention {
namespace {

TEST(WindowStatistics, FollowTheFormulas) {
  // Two rows over four entries: the entropy leaves out the last two columns.
  const std::vector<float> a = {0.5f, 0.25f, 0.25f, 0, 0.25f, 0.25f, 0.25f, 0.25f};
  std::vector<float> mean(4), variance(4);
  on_every_target([&] {
    const double entropy = window_statistics(a.data(), 4, 2, mean.data(), variance.data());
    EXPECT_EQ(mean, (std::vector<float>{0.375f, 0.25f, 0.25f, 0.125f}));
    EXPECT_EQ(variance, (std::vector<float>{0.03125f, 0, 0, 0.03125f}));
    EXPECT_NEAR(entropy, 0.5 * std::log(2.0) + 3 * 0.25 * std::log(4.0), 1e-9);
  });
}

TEST(WindowStatistics, OneRowHasNoVariance) {
  const std::vector<float> a = {0.5f, 0.5f, 0};
  std::vector<float> mean(3), variance(3, -1.0f);
  EXPECT_NEAR(window_statistics(a.data(), 3, 1, mean.data(), variance.data()), std::log(2.0), 1e-9);
  EXPECT_EQ(mean, a);
  EXPECT_EQ(variance, (std::vector<float>{0, 0, 0}));
}

TEST(WindowStatistics, OfNothingButTheWindowHaveNoEntropy) {
  const std::vector<float> a = {1, 0, 0.5f, 0.5f};
  EXPECT_EQ(window_statistics(a.data(), 2, 2, nullptr, nullptr), 0.0);
}

// Columns that hardly change: where the difference of two sums would have nothing left.
TEST(WindowStatistics, KeepSmallVariances) {
  constexpr std::size_t kEntries = 700, kRows = 32;
  std::vector<float> a(kEntries * kRows), variance(kEntries);
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t i = 0; i < kEntries; ++i) a[r * kEntries + i] = 0.5f + (r % 2 ? 0x1p-20f : -0x1p-20f);
  }
  window_statistics(a.data(), kEntries, kRows, nullptr, variance.data());
  for (const float v : variance) EXPECT_NEAR(v, 0x1p-40 * 32 / 31, 0x1p-40 * 1e-6);
}

// Rows longer than any vector, no multiple of one, against the formulas in plain code.
TEST(WindowStatistics, AreTheSameForEveryColumn) {
  constexpr std::size_t kEntries = 203, kRows = 7;
  std::vector<float> a(kEntries * kRows), mean(kEntries), variance(kEntries);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = i % 11 == 0 ? 0.0f : (float)((i * 7919) % 1009) / 1e5f;
  double expected = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (i % kEntries < kEntries - kRows) expected -= a[i] * std::log((double)a[i] + 1e-10);
  }
  on_every_target([&] {
    EXPECT_NEAR(window_statistics(a.data(), kEntries, kRows, mean.data(), variance.data()), expected, 1e-12 * expected);
    for (std::size_t i = 0; i < kEntries; ++i) {
      double sum = 0, squares = 0;
      for (std::size_t r = 0; r < kRows; ++r) sum += a[r * kEntries + i];
      for (std::size_t r = 0; r < kRows; ++r) squares += std::pow(a[r * kEntries + i] - sum / kRows, 2);
      EXPECT_FLOAT_EQ(mean[i], (float)(sum / kRows)) << i;
      EXPECT_NEAR(variance[i], squares / (kRows - 1), 1e-7 * squares) << i;
    }
  });
}

constexpr LaneCase kAccumulated[] = {
    {.d_k = 40, .group = 3, .turn = Turn::kNormal, .n_rot = 32, .n_past = 70, .n_fresh = 90},
    {.d_k = 40, .group = 3, .window = 30, .softcap = 4, .sinks = true, .n_past = 70, .n_fresh = 90},
    {.d_k = 7, .d_v = 5, .group = 2, .n_past = 1100, .n_fresh = 35},
};

std::vector<float> accumulate(const TestLane& lane, const std::vector<std::size_t>& starts,
                              Arithmetic arithmetic = Arithmetic::kF32) {
  std::vector<float> sums(lane.n_entries() * (std::size_t)lane.shape().group, 1.0f);  // added to, not overwritten
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t n_q = (i + 1 < starts.size() ? starts[i + 1] : lane.fresh().n) - starts[i];
    ExactScratch scratch(prefill_scratch(lane.shape(), n_q)), summing(accumulate_scratch(lane.shape()));
    std::vector<float> out(lane.fresh().n * lane.out_stride()), softmax(2 * n_q * (std::size_t)lane.shape().group);
    PrefillCall call = lane.call(starts[i], n_q, out.data());
    call.softmax = softmax.data();
    call.arithmetic = arithmetic;
    prefill(call, scratch);
    const std::size_t each = accumulated_keys(lane.shape());
    for (const Rows* rows : {&call.past, &call.fresh}) {
      const std::size_t n = rows == &call.past ? rows->n : starts[i] + n_q;
      for (std::size_t begin = 0; begin < n; begin += each) {
        const std::size_t entry = begin + (rows == &call.past ? 0 : call.past.n);
        accumulate_probabilities(call, {rows, begin, std::min(each, n - begin), entry}, softmax.data(), sums.data(),
                                 summing);
      }
    }
  }
  return sums;
}

class AccumulatedProbabilities : public testing::TestWithParam<LaneCase> {};

TEST_P(AccumulatedProbabilities, AreTheSumsOfRecordedOnes) {
  const TestLane lane(GetParam());
  const std::size_t n_q = lane.fresh().n;
  std::vector<float> out(n_q * lane.out_stride());
  std::vector<float> record(lane.n_entries() * n_q * (std::size_t)lane.shape().group);
  PrefillCall call = lane.call(0, n_q, out.data());
  call.record = record.data();
  call.record_rows = n_q;
  reference::prefill(call);

  on_every_target([&] {
    const std::vector<float> sums = accumulate(lane, {0});
    const std::vector<float> in_int16 = has_int16() ? accumulate(lane, {0}, Arithmetic::kInt16) : sums;
    for (std::size_t h = 0; h < (std::size_t)lane.shape().group; ++h) {
      for (std::size_t i = 0; i < lane.n_entries(); ++i) {
        double expected = 1;
        for (std::size_t j = 0; j < n_q; ++j) expected += record[(h * n_q + j) * lane.n_entries() + i];
        EXPECT_NEAR(sums[h * lane.n_entries() + i], expected, 1e-5 * expected) << "head " << h << " entry " << i;
        EXPECT_NEAR(in_int16[h * lane.n_entries() + i], expected, 1e-3 * expected) << "head " << h << " entry " << i;
      }
    }
  });
}

TEST_P(AccumulatedProbabilities, DoNotDependOnHowQueriesAreDivided) {
  const TestLane lane(GetParam());
  on_every_target([&] { EXPECT_EQ(accumulate(lane, {0, 1, 30, 31}), accumulate(lane, {0})); });
}

INSTANTIATE_TEST_SUITE_P(, AccumulatedProbabilities, testing::ValuesIn(kAccumulated),
                         testing::PrintToStringParamName());

constexpr LaneCase kRepeated[] = {
    {.d_k = 40, .group = 3, .turn = Turn::kNormal, .n_rot = 32, .n_past = 6, .n_fresh = 190},
    {.group = 2, .softcap = 4, .sinks = true, .n_fresh = 450},
    {.d_k = 7, .d_v = 5, .group = 5, .type = GGML_TYPE_F32, .n_past = 3, .n_fresh = 60},
};

// The last third of the segment repeats all but a few of the tokens before it.
Repeat repeat_of(const TestLane& lane, std::span<const std::uint32_t> past_sinks) {
  const std::size_t own = lane.fresh().n * 2 / 3;
  return {.first = 7, .last = own - 5, .own = own, .past_sinks = past_sinks, .n_fresh_sinks = 3};
}

// Largest probabilities [part, group], of queries that are divided at `starts`.
std::vector<float> repeat_peaks(const TestLane& lane, const Repeat& repeat, std::vector<std::size_t> starts,
                                std::size_t each, Arithmetic arithmetic = Arithmetic::kF32) {
  const auto group = (std::size_t)lane.shape().group;
  std::vector<float> peaks(lane.n_entries() * group, -1e30f);
  starts.push_back(lane.fresh().n - repeat.own);
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const std::size_t n_q = starts[i + 1] - starts[i];
    ExactScratch scratch(prefill_scratch(lane.shape(), n_q)), summing(accumulate_scratch(lane.shape()));
    std::vector<float> norms(n_q * group);
    PrefillCall call = lane.call(repeat.own + starts[i], n_q, nullptr);
    call.arithmetic = arithmetic;
    repeat_norms(call, repeat, norms.data(), scratch);
    for (std::size_t begin = repeat.first; begin < repeat.last; begin += each) {
      const Tile keys{&call.fresh, begin, std::min(each, repeat.last - begin), call.past.n + begin};
      raise_peaks(call, keys, norms.data(), peaks.data(), summing);
    }
  }
  std::vector<float> part;
  for (std::size_t h = 0; h < group; ++h) {
    const float* of_head = peaks.data() + h * lane.n_entries() + lane.past().n;
    for (std::size_t i = repeat.first; i < repeat.last; ++i) part.push_back(std::exp2(of_head[i]));
  }
  return part;
}

class RepeatPeaks : public testing::TestWithParam<LaneCase> {};

TEST_P(RepeatPeaks, AreTheLargestProbabilitiesOfThePart) {
  const TestLane lane(GetParam());
  const std::vector<std::uint32_t> sinks =
      lane.past().n > 2 ? std::vector<std::uint32_t>{2, 0} : std::vector<std::uint32_t>{};
  const Repeat repeat = repeat_of(lane, sinks);
  std::vector<double> expected((repeat.last - repeat.first) * (std::size_t)lane.shape().group);
  std::vector<float> nowhere(lane.fresh().n * lane.out_stride());
  reference::repeat_peaks(lane.call(repeat.own, lane.fresh().n - repeat.own, nowhere.data()), repeat, expected.data());
  on_every_target([&] {
    const std::vector<float> peaks = repeat_peaks(lane, repeat, {0}, accumulated_keys(lane.shape()));
    const std::vector<float> in_int16 = has_int16() ? repeat_peaks(lane, repeat, {0}, 64, Arithmetic::kInt16) : peaks;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(peaks[i], expected[i], 1e-5 * expected[i]) << i;
      EXPECT_NEAR(in_int16[i], expected[i], 2e-3 * expected[i]) << i;
    }
  });
}

TEST_P(RepeatPeaks, DoNotDependOnHowQueriesAndKeysAreDivided) {
  const TestLane lane(GetParam());
  const Repeat repeat = repeat_of(lane, {});
  on_every_target([&] {
    EXPECT_EQ(repeat_peaks(lane, repeat, {0, 1, 16}, 32), repeat_peaks(lane, repeat, {0}, 96));
    if (!has_int16()) return;
    EXPECT_EQ(repeat_peaks(lane, repeat, {0, 1, 16}, 32, Arithmetic::kInt16),
              repeat_peaks(lane, repeat, {0}, 96, Arithmetic::kInt16));
  });
}

INSTANTIATE_TEST_SUITE_P(, RepeatPeaks, testing::ValuesIn(kRepeated), testing::PrintToStringParamName());

TEST(KeySimilarity, IsTheCosineWithTheMeanOfAllKeys) {
  const std::vector<float> past = {3, 0, 0, 0}, fresh = {0, 3, 3, 3};  // 2 keys of 2 numbers each; mean (1.5, 1.5)
  const Shape shape = {.d_k = 2, .d_v = 0, .group = 1, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F32};
  std::vector<float> cosines(4);
  on_every_target([&] {
    key_similarity(shape, {.k = past.data(), .k_stride = 8, .n = 2}, {.k = fresh.data(), .k_stride = 8, .n = 2}, false,
                   cosines.data());
    EXPECT_NEAR(cosines[0], std::sqrt(0.5), 1e-7);
    EXPECT_EQ(cosines[1], 0.0f);  // a key of zeros is like nothing
    EXPECT_NEAR(cosines[2], std::sqrt(0.5), 1e-7);
    EXPECT_NEAR(cosines[3], 1.0, 1e-7);
  });
}

TEST(KeySimilarity, OfKeysOfAnyLengthFollowsTheFormula) {
  constexpr int kKeys = 5;
  for (const int d : {1, 7, 8, 43, 64}) {
    std::vector<float> keys((std::size_t)(d * kKeys)), cosines(kKeys);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = (float)((i * 7919) % 101) - 37;
    std::vector<double> mean((std::size_t)d), expected;
    for (std::size_t i = 0; i < keys.size(); ++i) mean[i % (std::size_t)d] += keys[i] / (double)kKeys;
    const Shape shape = {.d_k = d, .d_v = 0, .group = 1, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F32};
    const Rows rows{.k = keys.data(), .k_stride = (std::size_t)d * sizeof(float), .n = kKeys};
    for (std::size_t i = 0; i < kKeys; ++i) {
      double product = 0, square = 0, of_mean = 0;
      for (std::size_t c = 0; c < (std::size_t)d; ++c) {
        const double k = keys[i * (std::size_t)d + c];
        product += k * mean[c], square += k * k, of_mean += mean[c] * mean[c];
      }
      expected.push_back(product / std::sqrt(square * of_mean));
    }
    std::vector<float> first;
    on_every_target([&] {
      key_similarity(shape, rows, {}, false, cosines.data());
      for (std::size_t i = 0; i < kKeys; ++i) EXPECT_NEAR(cosines[i], expected[i], 1e-6) << i << " of " << d;
      if (first.empty()) first = cosines;
      EXPECT_EQ(cosines, first) << "bits of another machine";
    });
  }
}

TEST(RaiseToPooled, FollowsTheFormulaForRowsOfAnyLength) {
  for (const std::size_t n : {1, 2, 3, 4, 5, 13, 40}) {
    std::vector<float> row(n), peak(n, 0.1f);
    for (std::size_t i = 0; i < n; ++i) row[i] = (float)((i * 31 + 5) % 17);
    std::vector<double> pooled(n);
    double mass = 0, of_pooled = 0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = i - std::min<std::size_t>(i, 2); j < std::min(i + 3, n); ++j) pooled[i] += row[j] / 5.0;
      mass += row[i], of_pooled += pooled[i];
    }
    std::vector<float> first;
    on_every_target([&] {
      std::fill(peak.begin(), peak.end(), 0.1f);
      raise_to_pooled(row, peak);
      for (std::size_t i = 0; i < n; ++i) {
        EXPECT_NEAR(peak[i], std::max(0.1, pooled[i] * mass / of_pooled), 1e-5) << i << " of " << n;
      }
      if (first.empty()) first = peak;
      EXPECT_EQ(peak, first) << "bits of another machine";
    });
  }
}

TEST(ConvertRow, GivesTheBitsOfThePlainConversion) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q5_1,
                               GGML_TYPE_Q5_0, GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL, GGML_TYPE_Q4_0}) {
    for (const int d : {7, 32, 50, 96}) {
      if (d % (int)ggml_blck_size(type) != 0) continue;
      std::vector<float> numbers((std::size_t)d), plain(numbers), fast(numbers);
      for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = (float)((i * 7919) % 101) / 7 - 5;
      std::vector<std::byte> row(ggml_row_size(type, d));
      ggml_quantize_chunk(type, numbers.data(), row.data(), 0, 1, d, nullptr);
      load_row(row.data(), d, type, plain.data());
      on_every_target([&] {
        convert_row(row.data(), d, type, fast.data());
        EXPECT_EQ(fast, plain) << ggml_type_name(type) << " of " << d;
      });
    }
  }
}

TEST(KeySimilarity, IsTheSameOfKeysInAForm) {
  const TestLane lane({.n_past = 30, .n_fresh = 1});
  std::vector<float> scale(64), center(64);
  for (std::size_t i = 0; i < 64; ++i) scale[i] = 1 + 0.02f * (float)i, center[i] = 0.5f - 0.01f * (float)i;
  const KeyForm form{.scale = scale.data(), .center = center.data()};
  const auto similarity = [&](ggml_type type) {
    const std::size_t stride = ggml_row_size(type, 64);
    std::vector<std::byte> rows(30 * stride);
    std::vector<float> row(64), cosines(30);
    for (std::size_t i = 0; i < 30; ++i) {
      load_row((const std::byte*)lane.past().k + i * lane.past().k_stride, 64, lane.shape().type_k, row.data());
      store_key(row.data(), 64, type, form, nullptr, rows.data() + i * stride);
    }
    key_similarity({.d_k = 64, .d_v = 0, .group = 1, .type_k = type, .type_v = type, .key_form = form},
                   {.k = rows.data(), .k_stride = stride, .n = 30}, {}, /*normalised*/ false, cosines.data());
    return cosines;
  };
  const std::vector<float> exact = similarity(GGML_TYPE_F32);
  for (const ggml_type type : {GGML_TYPE_Q5_1, GGML_TYPE_Q8_0}) {
    const std::vector<float> formed = similarity(type);
    for (std::size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(formed[i], exact[i], 0.02) << ggml_type_name(type) << i;
  }
}

}  // namespace
}  // namespace lacake::attention
