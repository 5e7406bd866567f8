#include "attention/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "attention/test_lane.h"

namespace lacake::attention {
namespace {

// Logits reach +-8 and are sums of up to 256 products in f32: about 1e-6 off, and so are probabilities, relatively;
// values are below 1. Measured on these cases: 2e-6 at most.
constexpr float kTolerance = 5e-6f;

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= largest)) largest = std::abs(a[i] - b[i]);  // NaN counts
  }
  return largest;
}

// --- prefill -------------------------------------------------------------------------------------------------------

struct Result {
  std::vector<float> out, probabilities;
};

// The queries of a lane divided into calls that start at `starts`; the last four are recorded.
Result run_prefill(const TestLane& lane, const std::vector<std::size_t>& starts, bool reference = false,
                   Arithmetic arithmetic = Arithmetic::kF32) {
  const std::size_t n_q = lane.fresh().n, n_recorded = std::min<std::size_t>(n_q, 4);
  // What a call forgets to write must show.
  Result result = {std::vector<float>(n_q * lane.out_stride()),
                   std::vector<float>(lane.n_entries() * n_recorded * (std::size_t)lane.shape().group, -1.0f)};
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t end = i + 1 < starts.size() ? starts[i + 1] : n_q;
    PrefillCall call = lane.call(starts[i], end - starts[i], result.out.data());
    call.record = result.probabilities.data();
    call.record_from = n_q - n_recorded;
    call.record_rows = n_recorded;
    call.arithmetic = arithmetic;
    if (reference) {
      reference::prefill(call);
    } else {
      ExactScratch scratch(prefill_scratch(lane.shape(), call.n_q));
      prefill(call, scratch);
    }
  }
  return result;
}

class Prefill : public testing::TestWithParam<LaneCase> {
 protected:
  // Past and fresh rows: none, one, odd, a tile and one more, several tiles, several pieces.
  template <class Use>
  void for_each_length(const Use& use) const {
    static constexpr std::pair<std::size_t, std::size_t> kLengths[] = {{0, 1},    {0, 7},   {1, 65},  {0, 130},
                                                                       {127, 12}, {513, 3}, {1100, 2}};
    for (const auto& [n_past, n_fresh] : kLengths) {
      SCOPED_TRACE(std::to_string(n_past) + " past, " + std::to_string(n_fresh) + " fresh");
      use(TestLane(GetParam().with_lengths(n_past, n_fresh)));
    }
  }
};

TEST_P(Prefill, EqualsTheReference) {
  for_each_length([](const TestLane& lane) {
    const Result truth = run_prefill(lane, {0}, true);
    on_every_target([&] {
      const Result fast = run_prefill(lane, {0});
      EXPECT_LT(largest_difference(fast.out, truth.out), kTolerance);
      EXPECT_LT(largest_difference(fast.probabilities, truth.probabilities), kTolerance);
    });
  });
}

TEST_P(Prefill, RecordsProbabilitiesThatSumToOneAndSeeNothingMasked) {
  for_each_length([](const TestLane& lane) {
    on_every_target([&] {
      const std::vector<float> record = run_prefill(lane, {0}).probabilities;
      const std::size_t n = lane.n_entries(), n_recorded = std::min<std::size_t>(lane.fresh().n, 4);
      for (std::size_t row = 0; row < record.size() / n; ++row) {
        const std::size_t query = lane.fresh().n - n_recorded + row % n_recorded;
        double sum = 0;
        for (std::size_t i = 0; i < n; ++i) {
          sum += record[row * n + i];
          if (lane.sees(query, i)) continue;
          ASSERT_EQ(record[row * n + i], 0.0f) << "row " << row << ", entry " << i;
        }
        // A sink takes the rest.
        if (lane.shape().sinks) {
          EXPECT_LT(sum, 1.0 + 1e-5) << "row " << row;
        } else {
          EXPECT_NEAR(sum, 1.0, 1e-5) << "row " << row;
        }
      }
    });
  });
}

TEST_P(Prefill, DoesNotDependOnHowQueriesAreDivided) {
  for_each_length([](const TestLane& lane) {
    on_every_target([&] {
      const Result whole = run_prefill(lane, {0});
      const std::size_t n = lane.fresh().n;
      std::vector<std::size_t> few_each;
      for (std::size_t j = 0; j < n; j += 1 + n / 6) few_each.push_back(j);
      for (const auto& starts : {std::vector<std::size_t>{0, n / 2}, {0, n / 3, n - n / 4}, few_each}) {
        const Result divided = run_prefill(lane, starts);
        EXPECT_EQ(divided.out, whole.out) << starts.size() << " calls";
        EXPECT_EQ(divided.probabilities, whole.probabilities) << starts.size() << " calls";
      }
    });
  });
}

// In 16-bit integers |q| |k| / sqrt(d) reaches 60 and a logit 8: 1e-5 of the first is 6e-4 of a logit, and as much of a
// probability. Measured on these cases: 7e-4 at most.
constexpr float kInt16Tolerance = 1e-3f;

// Decode's scales are those of 32 numbers: 1.6e-4 at most.
constexpr float kInt16DecodeTolerance = 3e-4f;

// `test` on every target that can.
template <class Test>
void on_every_target_with_int16(const Test& test) {
  on_every_target([&] {
    if (has_int16()) test();
  });
}

TEST_P(Prefill, In16BitIntegersIsNearTheReference) {
  for_each_length([](const TestLane& lane) {
    const Result truth = run_prefill(lane, {0}, true);
    on_every_target_with_int16([&] {
      const Result fast = run_prefill(lane, {0}, false, Arithmetic::kInt16);
      EXPECT_LT(largest_difference(fast.out, truth.out), kInt16Tolerance);
      EXPECT_LT(largest_difference(fast.probabilities, truth.probabilities), kInt16Tolerance);
    });
  });
}

TEST_P(Prefill, In16BitIntegersIsTheSameBitsOnAMatrixUnit) {
  if (!cpu::uses_matrix_unit()) GTEST_SKIP() << "no AMX here";
  for_each_length([](const TestLane& lane) {
    const Result on_unit = run_prefill(lane, {0}, false, Arithmetic::kInt16);
    cpu::use_target(cpu::target_names()[1]);
    const Result on_vectors = run_prefill(lane, {0}, false, Arithmetic::kInt16);
    cpu::use_target(cpu::target_names()[0]);
    EXPECT_EQ(on_unit.out, on_vectors.out);
    EXPECT_EQ(on_unit.probabilities, on_vectors.probabilities);
  });
}

TEST_P(Prefill, In16BitIntegersDoesNotDependOnHowQueriesAreDivided) {
  for_each_length([](const TestLane& lane) {
    on_every_target_with_int16([&] {
      const Result whole = run_prefill(lane, {0}, false, Arithmetic::kInt16);
      const std::size_t n = lane.fresh().n;
      for (const auto& starts : {std::vector<std::size_t>{0, n / 2}, {0, n / 3, n - n / 4}}) {
        const Result divided = run_prefill(lane, starts, false, Arithmetic::kInt16);
        EXPECT_EQ(divided.out, whole.out) << starts.size() << " calls";
        EXPECT_EQ(divided.probabilities, whole.probabilities) << starts.size() << " calls";
      }
    });
  });
}

// --- decode --------------------------------------------------------------------------------------------------------

// One query over rows begin .. end - 1 of a lane's past: all heads' partial results.
//   weights  [past.n, group] or null
std::vector<float> run_piece(const TestLane& lane, std::size_t begin, std::size_t end, float* weights,
                             bool reference = false, Arithmetic arithmetic = Arithmetic::kF32) {
  std::vector<float> partial((std::size_t)lane.shape().group * partial_floats(lane.shape()));
  const DecodeCall call = {.shape = lane.shape(),
                           .rows = lane.past(),
                           .begin = begin,
                           .end = end,
                           .q = lane.query(0),
                           .partial = partial.data(),
                           .weights = weights,
                           .weights_stride = lane.past().n,
                           .arithmetic = arithmetic};
  if (reference) {
    reference::decode(call);
  } else {
    ExactScratch scratch(decode_scratch(lane.shape()));
    decode(call, scratch);
  }
  return partial;
}

// All rows of a lane's past, in pieces of n_piece.
Result run_decode(const TestLane& lane, std::size_t n_piece, bool reference = false, bool group_mean = false,
                  Arithmetic arithmetic = Arithmetic::kF32) {
  const std::size_t n = lane.past().n, group = (std::size_t)lane.shape().group;
  Result result = {std::vector<float>(group * (std::size_t)lane.shape().d_v), std::vector<float>(group * n)};
  std::vector<float> partials;
  std::size_t n_pieces = 0;
  for (std::size_t begin = 0; begin < n; begin += n_piece, ++n_pieces) {
    const auto partial =
        run_piece(lane, begin, std::min(begin + n_piece, n), result.probabilities.data(), reference, arithmetic);
    partials.insert(partials.end(), partial.begin(), partial.end());
  }
  combine(lane.shape(), partials.data(), n_pieces, result.out.data(),
          {.at = result.probabilities.data(), .stride = n, .n = n, .each = n_piece, .group_mean = group_mean});
  return result;
}

class Decode : public testing::TestWithParam<LaneCase> {
 protected:
  template <class Use>
  void for_each_length(const Use& use) const {
    for (const std::size_t n : {1, 7, 127, 128, 513, 1100}) {
      SCOPED_TRACE(std::to_string(n) + " rows");
      use(TestLane(GetParam().with_lengths(n, 1)));
    }
  }
};

TEST_P(Decode, PiecesCombineToTheReference) {
  for_each_length([](const TestLane& lane) {
    const Result truth = run_decode(lane, lane.past().n, true);
    on_every_target([&] {
      const Result fast = run_decode(lane, kDecodePiece);
      EXPECT_LT(largest_difference(fast.out, truth.out), kTolerance);
      EXPECT_LT(largest_difference(fast.probabilities, truth.probabilities), kTolerance);
    });
  });
}

// `test` in f32 on every target, and in 16-bit integers on those that can.
template <class Test>
void in_every_arithmetic(const Test& test) {
  on_every_target([&] { test(Arithmetic::kF32); });
  on_every_target_with_int16([&] { test(Arithmetic::kInt16); });
}

TEST_P(Decode, In16BitIntegersIsNearTheReference) {
  for_each_length([](const TestLane& lane) {
    const Result truth = run_decode(lane, lane.past().n, true);
    on_every_target_with_int16([&] {
      const Result fast = run_decode(lane, kDecodePiece, false, false, Arithmetic::kInt16);
      EXPECT_LT(largest_difference(fast.out, truth.out), kInt16DecodeTolerance);
      EXPECT_LT(largest_difference(fast.probabilities, truth.probabilities), kInt16DecodeTolerance);
    });
  });
}

TEST_P(Decode, RecordsTheGroupsMeanInTheFirstColumn) {
  for_each_length([](const TestLane& lane) {
    const std::size_t n = lane.past().n, group = (std::size_t)lane.shape().group;
    const Result apart = run_decode(lane, kDecodePiece), mean = run_decode(lane, kDecodePiece, false, true);
    EXPECT_EQ(mean.out, apart.out);
    for (std::size_t i = 0; i < n; ++i) {
      double sum = 0;
      for (std::size_t h = 0; h < group; ++h) sum += apart.probabilities[h * n + i];
      ASSERT_NEAR(mean.probabilities[i], sum / (double)group, 1e-6) << "entry " << i;
    }
  });
}

TEST_P(Decode, SeesWhatPrefillSees) {
  constexpr std::size_t n = kDecodePiece - 6;
  const TestLane lane(GetParam().with_lengths(0, n));
  std::vector<float> out(n * lane.out_stride());
  on_every_target([&] {
    PrefillCall call = lane.call(n - 1, 1, out.data());
    ExactScratch prefilling(prefill_scratch(lane.shape(), 1));
    prefill(call, prefilling);

    std::vector<float> partial((std::size_t)lane.shape().group * partial_floats(lane.shape()));
    std::vector<float> decoded((std::size_t)(lane.shape().group * lane.shape().d_v));
    ExactScratch decoding(decode_scratch(lane.shape()));
    decode({.shape = lane.shape(),
            .rows = lane.fresh(),
            .begin = call.window > 0 && call.window < n ? n - call.window : 0,
            .end = n,
            .q = lane.query(n - 1),
            .partial = partial.data()},
           decoding);
    combine(lane.shape(), partial.data(), 1, decoded.data());
    EXPECT_LT(largest_difference(decoded, {call.out, call.out + decoded.size()}), kTolerance);
  });
}

TEST_P(Decode, LogitsOfARowDoNotDependOnItsNeighbours) {
  for_each_length([](const TestLane& lane) {
    const std::size_t n = std::min(lane.past().n, kDecodePiece), group = (std::size_t)lane.shape().group;
    const std::size_t each = partial_floats(lane.shape());
    in_every_arithmetic([&](Arithmetic arithmetic) {
      std::vector<float> weights(group * lane.past().n), logits(group * n), largest(group, -INFINITY);
      const std::vector<float> whole = run_piece(lane, 0, n, weights.data(), false, arithmetic);
      for (std::size_t i = 0; i < n; ++i) {
        const std::vector<float> alone =
            run_piece(lane, i, i + 1, nullptr, false, arithmetic);  // its largest logit is the only one
        for (std::size_t h = 0; h < group; ++h) {
          logits[h * n + i] = alone[h * each];
          largest[h] = std::max(largest[h], alone[h * each]);
        }
      }
      for (std::size_t h = 0; h < group; ++h) {
        EXPECT_EQ(whole[h * each], largest[h]);
        for (std::size_t i = 0; i < n; ++i) {
          ASSERT_NEAR(weights[h * lane.past().n + i], std::exp(logits[h * n + i] - largest[h]), 1e-6) << "row " << i;
        }
      }
    });
  });
}

TEST_P(Decode, AskingForWeightsChangesNothing) {
  for_each_length([](const TestLane& lane) {
    const std::size_t n = std::min(lane.past().n, kDecodePiece);
    std::vector<float> weights((std::size_t)lane.shape().group * lane.past().n);
    in_every_arithmetic([&](Arithmetic arithmetic) {
      EXPECT_EQ(run_piece(lane, 0, n, nullptr, false, arithmetic),
                run_piece(lane, 0, n, weights.data(), false, arithmetic));
    });
  });
}

// --- head sizes, groups, types and rotations: each somewhere, not every combination ----------------------------------

const LaneCase kShapes[] = {
    {.d_k = 64, .d_v = 64, .group = 1, .type = GGML_TYPE_F32},
    {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_F16},
    {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_F16, .turn = Turn::kNormal, .n_rot = 64},
    {.d_k = 64, .d_v = 64, .group = 4, .type = GGML_TYPE_Q8_0, .turn = Turn::kNeox, .n_rot = 64},
    {.d_k = 64, .d_v = 64, .group = 2, .type = GGML_TYPE_BF16},
    {.d_k = 80, .d_v = 80, .group = 1, .type = GGML_TYPE_F16, .turn = Turn::kNeox, .n_rot = 32},
    {.d_k = 96, .d_v = 96, .group = 8, .type = GGML_TYPE_F16},
    {.d_k = 128, .d_v = 128, .group = 4, .type = GGML_TYPE_F16, .turn = Turn::kNeox, .n_rot = 128},
    {.d_k = 128, .d_v = 64, .group = 5, .type = GGML_TYPE_Q8_0},
    {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_Q8_0},
    {.d_k = 256, .d_v = 32, .group = 2, .type = GGML_TYPE_Q4_0, .softcap = 5},
    {.d_k = 32, .d_v = 256, .group = 1, .type = GGML_TYPE_Q8_0, .sinks = true},
    {.d_k = 64, .d_v = 128, .group = 3, .type = GGML_TYPE_Q4_0, .turn = Turn::kNormal, .n_rot = 64},
    {.d_k = 96, .d_v = 96, .group = 6, .type = GGML_TYPE_Q4_0},
    {.d_k = 80, .d_v = 80, .group = 2, .type = GGML_TYPE_BF16, .turn = Turn::kNormal, .n_rot = 64},
    {.d_k = 96, .d_v = 80, .group = 4, .type = GGML_TYPE_F32, .turn = Turn::kNeox, .n_rot = 64},
    {.d_k = 36, .d_v = 52, .group = 2, .type = GGML_TYPE_BF16},
    {.d_k = 256, .d_v = 256, .group = 2, .type = GGML_TYPE_F32, .turn = Turn::kNormal, .n_rot = 100},
    {.d_k = 40, .d_v = 40, .group = 3, .type = GGML_TYPE_F16, .turn = Turn::kNormal, .n_rot = 20},
    {.d_k = 40, .d_v = 24, .group = 7, .type = GGML_TYPE_F32, .turn = Turn::kNeox, .n_rot = 40},
    {.d_k = 7, .d_v = 5, .group = 1, .type = GGML_TYPE_F16},
    {.d_k = 64, .d_v = 64, .group = 2, .type = GGML_TYPE_F16, .window = 1},
    {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_F32, .window = 20},
    {.d_k = 40, .d_v = 24, .group = 5, .type = GGML_TYPE_F16, .turn = Turn::kNeox, .n_rot = 40, .window = 129},
    {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_F16, .softcap = 5},
    {.d_k = 24, .d_v = 24, .group = 2, .type = GGML_TYPE_F32, .window = 70, .softcap = 3, .sinks = true},
    {.d_k = 64, .d_v = 64, .group = 7, .type = GGML_TYPE_F16, .sinks = true},
    {.d_k = 64, .d_v = 64, .group = 4, .type = GGML_TYPE_Q8_0, .turn = Turn::kNeox, .n_rot = 64, .formed = true},
    {.d_k = 128, .d_v = 64, .group = 2, .type = GGML_TYPE_Q8_0, .turn = Turn::kNormal, .n_rot = 64, .formed = true},
    {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_Q4_0, .turn = Turn::kNormal, .n_rot = 64, .formed = true},
    {.d_k = 64, .d_v = 64, .group = 2, .type = GGML_TYPE_F16, .turn = Turn::kNeox, .n_rot = 64, .formed = true},
};

INSTANTIATE_TEST_SUITE_P(, Prefill, testing::ValuesIn(kShapes), testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(, Decode, testing::ValuesIn(kShapes), testing::PrintToStringParamName());

// --- what needs no table -------------------------------------------------------------------------------------------

TEST(StoreRow, RoundsToF16AsGgmlDoes) {
  std::vector<float> row = {
      0.0f,  -0.0f, 1.0f,    -1.0f,  65504.0f,       65519.0f,       65520.0f,
      1e30f, 6e-8f, 2.9e-8f, 1e-20f, 1.00048828125f, 1.00146484375f, std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 1000; ++i) row.push_back(std::ldexp(1.0f + (float)i / 977, i % 45 - 27));
  std::vector<ggml_fp16_t> expected(row.size()), stored(row.size());
  ggml_fp32_to_fp16_row(row.data(), expected.data(), (int64_t)row.size());
  on_every_target([&] {
    std::fill(stored.begin(), stored.end(), ggml_fp16_t{});
    store_row(row.data(), (int)row.size(), GGML_TYPE_F16, stored.data());
    EXPECT_EQ(stored, expected);
  });
}

TEST(StoreRow, CopiesF32) {
  const std::vector<float> row = {1.5f, -2.25f, 3e-39f};
  std::vector<float> stored(row.size());
  store_row(row.data(), (int)row.size(), GGML_TYPE_F32, stored.data());
  EXPECT_EQ(stored, row);
}

// A logit far above the others must not overflow, nor one far below it leave anything.
TEST(Softmax, SurvivesLogitsFarApart) {
  const std::vector<float> k = {-1e4f, 1e4f, 0, 1e4f}, v = {1, 2, 4, 8}, q = {1};
  const Rows none, rows = {.k = k.data(), .v = v.data(), .k_stride = 4, .v_stride = 4, .n = 4};
  const Shape shape = {.d_k = 1, .d_v = 1, .group = 1, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F32, .scale = 1};
  std::vector<float> out(1), record(4);
  ExactScratch scratch(prefill_scratch(shape, 1));
  prefill({.shape = shape,
           .past = none,
           .fresh = rows,
           .first = 3,
           .n_q = 1,
           .q = q.data(),
           .q_stride = 1,
           .out = out.data(),
           .out_stride = 1,
           .record = record.data(),
           .record_from = 3,
           .record_rows = 1},
          scratch);
  EXPECT_EQ(record, (std::vector<float>{0, 0.5f, 0, 0.5f}));
  EXPECT_EQ(out[0], 5.0f);
}

}  // namespace
}  // namespace lacake::attention
