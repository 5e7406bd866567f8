#include "attention/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>

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

// --- every case on every dispatch target of this machine -----------------------------------------------------------

class Attention : public testing::TestWithParam<std::tuple<std::int64_t, LaneCase>> {
 protected:
  const OnTarget target_{std::get<0>(GetParam())};
  const LaneCase case_ = std::get<1>(GetParam());
  const TestLane lane_{case_};
};

class Prefill : public Attention {
 protected:
  struct Result {
    std::vector<float> out, record;
  };
  static constexpr std::size_t kRecorded = 4;
  std::size_t recorded() const { return std::min(kRecorded, case_.n_fresh); }

  // Queries divided into calls that start at `starts`.
  Result run(const std::vector<std::size_t>& starts, bool reference = false) const {
    Result result;
    result.out.resize(case_.n_fresh * lane_.out_stride());
    // What a call forgets to write must show.
    result.record.assign(lane_.n_entries() * recorded() * (std::size_t)case_.group, -1.0f);
    for (std::size_t i = 0; i < starts.size(); ++i) {
      const std::size_t end = i + 1 < starts.size() ? starts[i + 1] : case_.n_fresh;
      PrefillCall call = lane_.call(starts[i], end - starts[i], result.out.data());
      call.record = result.record.data();
      call.record_from = case_.n_fresh - recorded();
      call.record_rows = recorded();
      if (reference) {
        reference::prefill(call);
      } else {
        Scratch scratch(prefill_scratch(lane_.shape(), call.n_q));
        prefill(call, scratch);
      }
    }
    return result;
  }
};

TEST_P(Prefill, EqualsTheReference) {
  const Result fast = run({0});
  const Result truth = run({0}, true);
  EXPECT_LT(largest_difference(fast.out, truth.out), kTolerance);
  EXPECT_LT(largest_difference(fast.record, truth.record), kTolerance);
}

TEST_P(Prefill, RecordsProbabilitiesThatSumToOneAndSeeNothingMasked) {
  const std::vector<float> record = run({0}).record;
  for (std::size_t row = 0; row < recorded() * (std::size_t)case_.group; ++row) {
    const float* p = record.data() + row * lane_.n_entries();
    const std::size_t n_visible = lane_.n_entries() - recorded() + row % recorded() + 1;
    double sum = 0;
    for (std::size_t i = 0; i < lane_.n_entries(); ++i) {
      sum += p[i];
      if (i >= n_visible) {
        EXPECT_EQ(p[i], 0.0f) << "row " << row << " entry " << i;
      }
    }
    EXPECT_NEAR(sum, 1.0, 1e-5) << "row " << row;
  }
}

TEST_P(Prefill, DoesNotDependOnHowQueriesAreDivided) {
  const Result whole = run({0});
  std::vector<std::size_t> one_by_one(case_.n_fresh);
  for (std::size_t j = 0; j < case_.n_fresh; ++j) one_by_one[j] = j;
  const std::size_t n = case_.n_fresh;
  for (const auto& starts : {std::vector<std::size_t>{0, n / 2}, {0, n / 3, n - n / 4}, one_by_one}) {
    const Result divided = run(starts);
    EXPECT_EQ(divided.out, whole.out) << starts.size() << " calls";
    EXPECT_EQ(divided.record, whole.record) << starts.size() << " calls";
  }
}

class Decode : public Attention {
 protected:
  struct Result {
    std::vector<float> out, probabilities;
  };
  std::size_t n_rows() const { return case_.n_past; }

  std::vector<float> piece(std::size_t begin, std::size_t end, float* logits, bool reference = false) const {
    std::vector<float> partial((std::size_t)case_.group * partial_floats(lane_.shape()));
    const DecodeCall call = {.shape = lane_.shape(),
                             .rows = lane_.past(),
                             .begin = begin,
                             .end = end,
                             .q = lane_.query(0),
                             .partial = partial.data(),
                             .logits = logits,
                             .logits_stride = n_rows()};
    if (reference) {
      reference::decode(call);
    } else {
      Scratch scratch(decode_scratch(lane_.shape()));
      decode(call, scratch);
    }
    return partial;
  }

  // All rows, cut into pieces of n_piece.
  Result run(std::size_t n_piece, bool reference = false) const {
    Result result;
    result.out.resize((std::size_t)(case_.group * case_.d_v));
    result.probabilities.resize((std::size_t)case_.group * n_rows());
    std::vector<float> partials;
    std::size_t n_pieces = 0;
    for (std::size_t begin = 0; begin < n_rows(); begin += n_piece, ++n_pieces) {
      const auto partial =
          piece(begin, std::min(begin + n_piece, n_rows()), result.probabilities.data(), reference);
      partials.insert(partials.end(), partial.begin(), partial.end());
    }
    combine(lane_.shape(), partials.data(), n_pieces, result.out.data(), result.probabilities.data(), n_rows(),
            n_rows());
    return result;
  }
};

TEST_P(Decode, PiecesCombineToTheReference) {
  const Result fast = run(kDecodePiece);
  const Result truth = run(n_rows(), true);
  EXPECT_LT(largest_difference(fast.out, truth.out), kTolerance);
  EXPECT_LT(largest_difference(fast.probabilities, truth.probabilities), kTolerance);
}

TEST_P(Decode, LogitsAreTheReferencesLogits) {
  const std::size_t n = std::min(n_rows(), kDecodePiece);
  std::vector<float> fast((std::size_t)case_.group * n_rows()), truth = fast;
  piece(0, n, fast.data());
  piece(0, n, truth.data(), true);
  EXPECT_LT(largest_difference(fast, truth), 2 * kTolerance);
}

TEST_P(Decode, RowsDoNotDependOnTheirNeighbours) {
  std::vector<float> whole((std::size_t)case_.group * n_rows(), 0.0f), apart = whole;
  const std::size_t n = std::min(n_rows(), kDecodePiece);
  piece(0, n, whole.data());
  piece(0, n / 2 + 1, apart.data());
  if (n / 2 + 1 < n) piece(n / 2 + 1, n, apart.data());
  EXPECT_EQ(whole, apart);
}

TEST_P(Decode, UnaskedLogitsChangeNothing) {
  const std::size_t n = std::min(n_rows(), kDecodePiece);
  std::vector<float> logits((std::size_t)case_.group * n_rows());
  EXPECT_EQ(piece(0, n, nullptr), piece(0, n, logits.data()));
}

// --- cases ---------------------------------------------------------------------------------------------------------

std::string name_of(const testing::TestParamInfo<std::tuple<std::int64_t, LaneCase>>& info) {
  return hwy::TargetName(std::get<0>(info.param)) + ("_" + testing::PrintToString(std::get<1>(info.param)));
}

// Head sizes, groups, types and rotations, each with a few lengths: not every combination.
std::vector<LaneCase> shapes() {
  return {
      {.d_k = 64, .d_v = 64, .group = 1, .type = GGML_TYPE_F32},
      {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_F16},
      {.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_F16, .turn = Turn::kNormal, .n_rot = 64},
      {.d_k = 64, .d_v = 64, .group = 4, .type = GGML_TYPE_Q8_0, .turn = Turn::kNeox, .n_rot = 64},
      {.d_k = 80, .d_v = 80, .group = 1, .type = GGML_TYPE_F16, .turn = Turn::kNeox, .n_rot = 32},
      {.d_k = 96, .d_v = 96, .group = 8, .type = GGML_TYPE_F16},
      {.d_k = 128, .d_v = 128, .group = 4, .type = GGML_TYPE_F16, .turn = Turn::kNeox, .n_rot = 128},
      {.d_k = 128, .d_v = 64, .group = 5, .type = GGML_TYPE_Q8_0},
      {.d_k = 256, .d_v = 256, .group = 2, .type = GGML_TYPE_F32, .turn = Turn::kNormal, .n_rot = 100},
      {.d_k = 40, .d_v = 40, .group = 3, .type = GGML_TYPE_F16, .turn = Turn::kNormal, .n_rot = 20},
      {.d_k = 40, .d_v = 24, .group = 7, .type = GGML_TYPE_F32, .turn = Turn::kNeox, .n_rot = 40},
      {.d_k = 7, .d_v = 5, .group = 1, .type = GGML_TYPE_F16},
      {.d_k = 64, .d_v = 64, .group = 2, .type = GGML_TYPE_BF16},
  };
}

std::vector<LaneCase> with_lengths(const std::vector<std::pair<std::size_t, std::size_t>>& lengths) {
  std::vector<LaneCase> cases;
  for (LaneCase c : shapes()) {
    for (const auto& [n_past, n_fresh] : lengths) {
      c.n_past = n_past;
      c.n_fresh = n_fresh;
      cases.push_back(c);
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(, Prefill,
                         testing::Combine(testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                                          testing::ValuesIn(with_lengths({{0, 1}, {0, 7}, {1, 65}, {127, 12}, {513, 3}}))),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Long, Prefill,
                         testing::Combine(testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                                          testing::Values(LaneCase{.n_past = 0, .n_fresh = 160},
                                                          LaneCase{.n_past = 1100, .n_fresh = 20},
                                                          LaneCase{.turn = Turn::kNormal,
                                                                   .n_rot = 64,
                                                                   .n_past = 128,
                                                                   .n_fresh = 130})),
                         name_of);
INSTANTIATE_TEST_SUITE_P(, Decode,
                         testing::Combine(testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                                          testing::ValuesIn(with_lengths({{1, 1}, {7, 1}, {127, 1}, {128, 1}, {513, 1},
                                                                          {1100, 1}}))),
                         name_of);

// --- what needs no table -------------------------------------------------------------------------------------------

TEST(StoreRow, RoundsToF16AsGgmlDoes) {
  std::vector<float> row = {0.0f, -0.0f, 1.0f, -1.0f, 65504.0f, 65519.0f, 65520.0f, 1e30f, 6e-8f, 2.9e-8f, 1e-20f,
                            1.00048828125f, 1.00146484375f, std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 1000; ++i) row.push_back(std::ldexp(1.0f + (float)i / 977, i % 45 - 27));
  std::vector<ggml_fp16_t> expected(row.size()), stored(row.size());
  ggml_fp32_to_fp16_row(row.data(), expected.data(), (int64_t)row.size());
  store_row(row.data(), (int)row.size(), GGML_TYPE_F16, stored.data());
  EXPECT_EQ(stored, expected);
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
  Scratch scratch(prefill_scratch(shape, 1));
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

TEST(TargetName, IsTheTargetInUse) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const OnTarget on(target);
    EXPECT_STREQ(target_name(), hwy::TargetName(target));
  }
}

}  // namespace
}  // namespace lacake::attention
