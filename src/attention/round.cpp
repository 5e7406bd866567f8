#include "attention/round.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/round.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/vector_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {
namespace {

// to += by * x. [n], n a multiple of 32.
HWY_INLINE void add_scaled(const float* x, float by, std::size_t n, float* to) {
  const Lanes32 d;
  const Vector factor = hn::Set(d, by);
  for (std::size_t i = 0; i < n; i += lanes()) {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, x + i), factor, hn::LoadU(d, to + i)), d, to + i);
  }
}

}  // namespace

void weigh(const float* queries, std::size_t n, std::size_t stride, std::size_t d, float others, float* metric) {
  std::fill_n(metric, d * d, 0.0f);
  for (std::size_t j = 0; j < n; ++j) {
    const float* q = queries + j * stride;
    for (std::size_t i = 0; i < d; ++i) add_scaled(q, q[i], d, metric + i * d);
  }
  float trace = 0;
  for (std::size_t i = 0; i < d; ++i) trace += metric[i * d + i];
  const float more = trace > 0 ? others * trace / (float)d : 1.0f;
  for (std::size_t i = 0; i < d; ++i) metric[i * d + i] += more;
}

// One number after the other takes the step that is best given all the others; after two rounds hardly any moves.
void round_weighed(const float* row, std::size_t d, const float* metric, void* to) {
  constexpr std::size_t kBlock = 32, kSweeps = 2;
  float off[kMostWeighed], slope[kMostWeighed], scales[kMostWeighed / kBlock];
  int steps[kMostWeighed];
  const auto step_of = [](float x, float scale) {
    return scale == 0 ? 8 : std::clamp((int)std::floor(x / scale + 8.5f), 0, 15);
  };
  std::fill_n(slope, d, 0.0f);  // M times off
  for (std::size_t b = 0; b < d / kBlock; ++b) {
    float largest = 0;
    for (std::size_t i = b * kBlock; i < (b + 1) * kBlock; ++i) {
      if (std::abs(row[i]) > std::abs(largest)) largest = row[i];
    }
    scales[b] = ggml_fp16_to_fp32(ggml_fp32_to_fp16(largest / -8));
  }
  for (std::size_t i = 0; i < d; ++i) {
    const float scale = scales[i / kBlock];
    steps[i] = step_of(row[i], scale);
    off[i] = (float)(steps[i] - 8) * scale - row[i];
    add_scaled(metric + i * d, off[i], d, slope);
  }
  for (std::size_t sweep = 0; sweep < kSweeps; ++sweep) {
    for (std::size_t i = 0; i < d; ++i) {
      const float scale = scales[i / kBlock];
      const int best = step_of(row[i] + off[i] - slope[i] / metric[i * d + i], scale);
      if (best == steps[i]) continue;
      const float moved = (float)(best - steps[i]) * scale;
      steps[i] = best;
      off[i] += moved;
      add_scaled(metric + i * d, moved, d, slope);
    }
  }
  auto* out = static_cast<std::uint8_t*>(to);
  for (std::size_t b = 0; b < d / kBlock; ++b, out += 18) {
    const ggml_fp16_t scale = ggml_fp32_to_fp16(scales[b]);
    std::memcpy(out, &scale, sizeof scale);
    const int* of = steps + b * kBlock;
    for (std::size_t i = 0; i < 16; ++i) out[2 + i] = (std::uint8_t)(of[i] | of[i + 16] << 4);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(weigh);
HWY_EXPORT(round_weighed);

void weigh(const float* queries, std::size_t n, std::size_t stride, std::size_t d, float others, float* metric) {
  HWY_DYNAMIC_DISPATCH(weigh)(queries, n, stride, d, others, metric);
}

void round_weighed(const float* row, std::size_t d, ggml_type, const float* metric, void* to) {
  HWY_DYNAMIC_DISPATCH(round_weighed)(row, d, metric, to);
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
