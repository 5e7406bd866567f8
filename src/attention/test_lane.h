#pragma once

// Made-up lanes and queries for the tests of kernels: the same case, the same numbers.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ostream>
#include <random>
#include <vector>

#include "attention/attention.h"
#include "targets/every_target.h"

namespace lacake::attention {

enum class Turn { kNone, kNormal, kNeox };

// What differs from test to test; prints itself.
struct LaneCase {
  int d_k = 64;
  int d_v = 64;
  int group = 3;
  ggml_type type = GGML_TYPE_F16;
  Turn turn = Turn::kNone;
  int n_rot = 0;
  std::size_t window = 0;
  float softcap = 0;
  bool sinks = false;
  bool formed = false;  // keys have a scale and a center
  std::size_t n_past = 0;
  std::size_t n_fresh = 1;

  friend std::ostream& operator<<(std::ostream& os, const LaneCase& c) {
    static constexpr const char* kTurns[] = {"plain", "normal", "neox"};
    os << "d" << c.d_k << "_" << c.d_v << "_group" << c.group << "_" << ggml_type_name(c.type) << "_"
       << kTurns[(int)c.turn];
    if (c.n_rot) os << c.n_rot;
    if (c.window) os << "_window" << c.window;
    if (c.softcap > 0) os << "_softcap" << c.softcap;
    if (c.sinks) os << "_sinks";
    if (c.formed) os << "_formed";
    return os;
  }

  LaneCase with_lengths(std::size_t past, std::size_t fresh) const {
    LaneCase c = *this;
    c.n_past = past;
    c.n_fresh = fresh;
    return c;
  }
};

// Owns what a call points to. Rows of K and V alternate in memory, so their stride is not their size; the last row ends
// where its buffer does, so that a sanitizer sees a read beyond it.
class TestLane {
 public:
  explicit TestLane(const LaneCase& c) : case_(c), random_(c.n_past * 7919 + c.n_fresh * 31 + (std::size_t)c.d_k) {
    shape_ = {.d_k = c.d_k,
              .d_v = c.d_v,
              .group = c.group,
              .type_k = c.type,
              .type_v = c.type,
              .scale = 1.0f / std::sqrt((float)c.d_k),
              .rope = {},
              .softcap = c.softcap};
    if (c.turn != Turn::kNone) make_rope();
    past_ = make_rows(past_bytes_, past_index_, c.n_past);
    fresh_ = make_rows(fresh_bytes_, fresh_index_, c.n_fresh);
    if (c.window > 0) shuffle_past();
    if (c.sinks) {
      sinks_ = numbers((std::size_t)c.group, 6);
      shape_.sinks = sinks_.data();
    }
    if (c.formed) {
      center_ = numbers((std::size_t)c.d_k, 0.5f), scale_ = numbers((std::size_t)c.d_k, 0.5f);
      for (float& x : scale_) x += 1;
      shape_.key_form = {.scale = scale_.data(), .center = center_.data()};
    }
    // Queries large enough for logits of about +-8: a softmax with peaks, as models have.
    q_ = numbers(c.n_fresh * q_stride(), 8.0f);
  }
  TestLane(const TestLane&) = delete;
  TestLane& operator=(const TestLane&) = delete;

  const Shape& shape() const { return shape_; }
  const Rows& past() const { return past_; }
  const Rows& fresh() const { return fresh_; }
  std::size_t n_entries() const { return past_.n + fresh_.n; }
  std::size_t q_stride() const { return (std::size_t)(case_.group * case_.d_k) + 3; }
  std::size_t out_stride() const { return (std::size_t)(case_.group * case_.d_v) + 5; }
  const float* query(std::size_t j) const { return q_.data() + j * q_stride(); }

  PrefillCall call(std::size_t first, std::size_t n_q, float* out) const {
    return {.shape = shape_,
            .past = past_,
            .fresh = fresh_,
            .first = first,
            .n_q = n_q,
            .q = query(first),
            .q_stride = q_stride(),
            .out = out + first * out_stride(),
            .out_stride = out_stride(),
            .window = case_.window};
  }
  // Does query j of the segment see this entry?
  bool sees(std::size_t j, std::size_t entry) const {
    const std::size_t at = entry < past_.n && past_.token_rank ? (std::size_t)past_.token_rank[entry] : entry;
    const std::size_t own = past_.n + j;
    return at <= own && (case_.window == 0 || own - at < case_.window);
  }

 private:
  std::vector<float> numbers(std::size_t n, float largest) {
    std::vector<float> x(n);
    for (float& value : x) value = largest * ((float)(random_() >> 8) * 0x1p-23f - 1);
    return x;
  }

  void make_rope() {
    constexpr std::size_t kPositions = 300;
    const int half = case_.n_rot / 2;
    for (std::size_t position = 0; position < kPositions; ++position) {
      const auto angle = [&](int i) { return (double)position * std::pow(10000.0, -2.0 * i / case_.n_rot); };
      for (int i = 0; i < half; ++i) table_.push_back((float)std::cos(angle(i)));
      for (int i = 0; i < half; ++i) table_.push_back((float)std::sin(angle(i)));
    }
    shape_.rope = {.table = table_.data(), .n_rot = case_.n_rot, .neox = case_.turn == Turn::kNeox};
  }

  // Slots are not in the order of tokens where entries went one by one.
  void shuffle_past() {
    for (std::size_t i = 0; i < past_.n; ++i) order_.push_back((std::int32_t)i);
    std::shuffle(order_.begin(), order_.end(), random_);
    past_.token_rank = order_.data();
  }

  Rows make_rows(std::vector<std::byte>& bytes, std::vector<std::int32_t>& index, std::size_t n) {
    const std::size_t k_bytes = ggml_row_size(case_.type, case_.d_k);
    const std::size_t v_bytes = ggml_row_size(case_.type, case_.d_v);
    bytes.resize(n * (k_bytes + v_bytes));
    for (std::size_t i = 0; i < n; ++i) {
      std::byte* at = bytes.data() + i * (k_bytes + v_bytes);
      store_row(numbers((std::size_t)case_.d_k, 1).data(), case_.d_k, case_.type, at);
      store_row(numbers((std::size_t)case_.d_v, 1).data(), case_.d_v, case_.type, at + k_bytes);
    }
    Rows rows = {.k = bytes.data(),
                 .v = bytes.data() + (n ? k_bytes : 0),
                 .k_stride = k_bytes + v_bytes,
                 .v_stride = k_bytes + v_bytes,
                 .n = n};
    if (case_.turn != Turn::kNone) {
      for (std::size_t i = 0; i < n; ++i) index.push_back((std::int32_t)(random_() % 300));
      rows.rope_index = index.data();
    }
    return rows;
  }

  LaneCase case_;
  std::mt19937 random_;
  Shape shape_;
  Rows past_, fresh_;
  std::vector<std::byte> past_bytes_, fresh_bytes_;
  std::vector<std::int32_t> past_index_, fresh_index_, order_;
  std::vector<float> table_, q_, sinks_, center_, scale_;
};

// Exactly as large as asked for.
struct ExactScratch {
  explicit ExactScratch(std::size_t n_bytes) : bytes(n_bytes) {}
  std::vector<std::byte> bytes;
  operator std::span<std::byte>() { return bytes; }
};

}  // namespace lacake::attention
