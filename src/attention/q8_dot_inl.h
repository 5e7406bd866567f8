// Rows of q8_0 and q4_0 multiplied as the bytes that they are stored in: less than half of the instructions that it
// takes to turn them into f32 first.
//
// A stored number is a byte less an offset (q8_0: 128, q4_0: 8), times its block's scale. What it is multiplied by, a
// head's query or its weights, becomes integers of up to kMost in size, each 256 * high + low in two signed bytes. A
// lane of AVX-512 VNNI multiplies four bytes by four and adds them up, exactly: the largest sum, of a piece's values,
// is 255 * 127 * 256 rows * 256 and fits 32 bits.
// - Keys: a lane is a key. Sixteen rows are transposed, so that a lane has four neighbouring numbers of its key; no
//   sums across lanes, and the scales of a block are one vector.
// - Values: a lane is a dimension and has its numbers of four rows. The rows' scales are part of their weights.
// A query's number is off by 1.6e-5 of the largest of its 32, a row's weight by as much of the largest of its piece.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention/int16_dot_inl.h"
#include "attention/layout.h"
#include "attention/rows_inl.h"
#include "attention/vector_inl.h"

#if defined(LACAKE_ATTENTION_BYTES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_BYTES_INL_H_
#undef LACAKE_ATTENTION_BYTES_INL_H_
#else
#define LACAKE_ATTENTION_BYTES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

#if LACAKE_ATTENTION_VNNI

using LanesOfWords = LanesOfPairs;
using Words = Pairs;  // four bytes a lane

inline constexpr float kMost = 32512.0f;  // 127 * 256

// Whether bytes can be multiplied, beside VNNI, without which no call asks for it.
HWY_INLINE bool has_byte_products() { return __builtin_cpu_supports("avx512vbmi") != 0; }

// sum + the four products of bytes in each lane: `a` without sign, the word at `b` with.
HWY_INLINE Words multiply_bytes(Words a, const std::int32_t& b, Words sum) {
  asm("vpdpbusd %[b]%{1to16%}, %[a], %[sum]" : [sum] "+v"(sum.raw) : [a] "v"(a.raw), [b] "m"(b));
  return sum;
}

HWY_INLINE Words all(std::uint32_t word) { return hn::Set(LanesOfWords(), (std::int32_t)word); }

// 16 bytes of each of four rows.
HWY_INLINE Words quarters(const std::byte* a, const std::byte* b, const std::byte* c, const std::byte* d) {
  const auto load = [](const std::byte* from)
                        LACAKE_IN_REGISTERS { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
  __m512i all_four = _mm512_castsi128_si512(load(a));
  all_four = _mm512_inserti32x4(all_four, load(b), 1);
  all_four = _mm512_inserti32x4(all_four, load(c), 2);
  all_four = _mm512_inserti32x4(all_four, load(d), 3);
  return Words{all_four};
}

// 16 bytes of each of sixteen rows: calls use(i, words) with word i of every row, i = 0 .. 3.
template <class Use>
HWY_INLINE void for_words_of_sixteen(const std::byte* from, std::size_t stride, const Use& use) {
  const LanesOfWords d;
  const hn::Repartition<std::int64_t, LanesOfWords> d64;
  const auto rows = [&](std::size_t i) LACAKE_IN_REGISTERS {
    const std::byte* row = from + i * stride;
    return quarters(row, row + 4 * stride, row + 8 * stride, row + 12 * stride);
  };
  const Words a = rows(0), b = rows(1), c = rows(2), e = rows(3);
  const auto ab = hn::BitCast(d64, hn::InterleaveLower(d, a, b)), ce = hn::BitCast(d64, hn::InterleaveLower(d, c, e));
  const auto ab2 = hn::BitCast(d64, hn::InterleaveUpper(d, a, b)), ce2 = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
  use(0, hn::BitCast(d, hn::InterleaveLower(d64, ab, ce)));
  use(1, hn::BitCast(d, hn::InterleaveUpper(d64, ab, ce)));
  use(2, hn::BitCast(d, hn::InterleaveLower(d64, ab2, ce2)));
  use(3, hn::BitCast(d, hn::InterleaveUpper(d64, ab2, ce2)));
}

// 16 bytes of each of four rows -> in lane i byte i of each.
HWY_INLINE Words bytes_of_four(const std::byte* from, std::size_t stride) {
  alignas(64) static constexpr std::uint8_t kOrder[64] = {
      0,  16, 32, 48, 1,  17, 33, 49, 2,  18, 34, 50, 3,  19, 35, 51, 4,  20, 36, 52, 5,  21,
      37, 53, 6,  22, 38, 54, 7,  23, 39, 55, 8,  24, 40, 56, 9,  25, 41, 57, 10, 26, 42, 58,
      11, 27, 43, 59, 12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46, 62, 15, 31, 47, 63};
  Words bytes = quarters(from, from + stride, from + 2 * stride, from + 3 * stride);
  const __m512i order = _mm512_load_si512(kOrder);
  asm("vpermb %[bytes], %[order], %[bytes]" : [bytes] "+v"(bytes.raw) : [order] "v"(order));
  return bytes;
}

// Blocks of an f16 scale and 32 bytes with sign.
//   for_words   calls use(i, words) for the words 0 .. 7 of a block of sixteen rows: word i has numbers 4i and on
//   for_halves  calls use(half, words) for the 16 dimensions of each half of a block of four rows
struct BytesQ80 {
  static constexpr std::size_t kBlock = 34;
  static constexpr std::int32_t kOffset = 128;
  template <class Use>
  static HWY_INLINE void for_words(const std::byte* block, std::size_t stride, const Use& use) {
    for_words_of_sixteen(block + 2, stride, [&](std::size_t i, Words w) LACAKE_IN_REGISTERS { use(i, from_zero(w)); });
    for_words_of_sixteen(block + 18, stride,
                         [&](std::size_t i, Words w) LACAKE_IN_REGISTERS { use(4 + i, from_zero(w)); });
  }
  template <class Use>
  static HWY_INLINE void for_halves(const std::byte* block, std::size_t stride, const Use& use) {
    use(0, from_zero(bytes_of_four(block + 2, stride)));
    use(1, from_zero(bytes_of_four(block + 18, stride)));
  }
  static HWY_INLINE Words from_zero(Words w) { return hn::Xor(w, all(0x80808080)); }
};

// Blocks of an f16 scale and 16 bytes: numbers 0 .. 15 in the lower halves, 16 .. 31 in the upper ones.
struct BytesQ40 {
  static constexpr std::size_t kBlock = 18;
  static constexpr std::int32_t kOffset = 8;
  template <class Use>
  static HWY_INLINE void for_words(const std::byte* block, std::size_t stride, const Use& use) {
    for_words_of_sixteen(block + 2, stride, [&](std::size_t i, Words w) LACAKE_IN_REGISTERS {
      use(i, lower(w));
      use(4 + i, upper(w));
    });
  }
  template <class Use>
  static HWY_INLINE void for_halves(const std::byte* block, std::size_t stride, const Use& use) {
    const Words w = bytes_of_four(block + 2, stride);
    use(0, lower(w));
    use(1, upper(w));
  }
  static HWY_INLINE Words lower(Words w) { return hn::And(w, all(0x0f0f0f0f)); }
  static HWY_INLINE Words upper(Words w) { return lower(hn::ShiftRight<4>(w)); }
};

// Calls use(blocks) with the type's own kind; false for types that have none.
template <class Use>
HWY_INLINE bool with_bytes(ggml_type type, const Use& use) {
  if (type == GGML_TYPE_Q8_0) use(BytesQ80());
  if (type == GGML_TYPE_Q4_0) use(BytesQ40());
  return type == GGML_TYPE_Q8_0 || type == GGML_TYPE_Q4_0;
}

// x times `factor`, rounded, below 2^15 in size: the number's low byte (to be taken with its sign) in byte 0, the high
// one in byte 1, exact together. `integers` grows by the numbers.
HWY_INLINE Words split(Vector x, Vector factor, Words& integers) {
  const LanesOfWords d;
  // Adding 1.5 * 2^23 + 128 rounds, and leaves the number + 128 in the lowest 16 bits of the sum.
  const Words bits = hn::BitCast(d, hn::MulAdd(x, factor, hn::Set(Lanes32(), 12583040.0f)));
  integers = hn::Add(integers, hn::Sub(bits, all(0x4b400080)));
  return hn::Xor(bits, all(0x80));
}

HWY_INLINE Words gather_bytes(Words split_numbers) {
  // In every 16 bytes, of four numbers: the high bytes, the low ones, zeros.
  const __m512i order = _mm512_broadcast_i32x4(_mm_setr_epi8(1, 5, 9, 13, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1));
  return Words{_mm512_shuffle_epi8(split_numbers.raw, order)};
}

// Four numbers, their high and their low bytes.
struct FourNumbers {
  std::int32_t high, low, unused[2];
};
static_assert(sizeof(FourNumbers) == 16);

// f32 [n], n a multiple of 16 -> to [n / 4]. Returns their scale; `bias` is what a sum of their products
// with bytes that begin at 0 lacks: their own sum, `offset` times, negative.
template <class Numbers>
HWY_INLINE float split_numbers(std::size_t n, std::int32_t offset, FourNumbers* to, std::int32_t& bias,
                               const Numbers& numbers) {
  const Lanes32 d;
  Vector largest = hn::Zero(d);
  for (std::size_t i = 0; i < n; i += 16) largest = hn::Max(largest, hn::Abs(numbers(i)));
  const float most = hn::GetLane(hn::MaxOfLanes(d, largest));
  const Vector factor = hn::Set(d, most > 0 ? kMost / most : 0.0f);
  Words integers = all(0);
  for (std::size_t i = 0; i < n; i += 16) {
    hn::StoreU(gather_bytes(split(numbers(i), factor, integers)), LanesOfWords(),
               reinterpret_cast<std::int32_t*>(to + i / 4));
  }
  bias = -offset * hn::GetLane(hn::SumOfLanes(LanesOfWords(), integers));
  return most / kMost;
}

// One block of a head's query.
struct QueryBlock {
  FourNumbers numbers[8];
  std::int32_t bias;
  float scale;
};
static_assert(sizeof(QueryBlock) == kQueryBlockFloats * sizeof(float));

template <class Bytes>
HWY_INLINE void split_query(const float* q, std::size_t n_blocks, QueryBlock* to) {
  for (std::size_t b = 0; b < n_blocks; ++b) {
    to[b].scale = split_numbers(32, Bytes::kOffset, to[b].numbers, to[b].bias, [&](std::size_t i) LACAKE_IN_REGISTERS {
      return hn::LoadU(Lanes32(), q + 32 * b + i);
    });
  }
}

// The f16 scales that the blocks of n rows start with -> [kDecodePiece, n_blocks]; 0 from row n on to the next multiple
// of 16. All rows of a piece before any is needed: one by one they would be waited for.
template <class Bytes>
HWY_INLINE void copy_scales(const std::byte* rows, std::size_t stride, std::size_t n, std::size_t n_blocks,
                            std::uint16_t* to) {
  for (std::size_t b = 0; b < n_blocks; ++b, to += kDecodePiece) {
    const std::byte* from = rows + b * Bytes::kBlock;
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4, from += 4 * stride) {
      std::memcpy(to + i, from, sizeof *to);
      std::memcpy(to + i + 1, from + stride, sizeof *to);
      std::memcpy(to + i + 2, from + 2 * stride, sizeof *to);
      std::memcpy(to + i + 3, from + 3 * stride, sizeof *to);
    }
    for (; i < n; ++i, from += stride) std::memcpy(to + i, from, sizeof *to);
    std::fill_n(to + n, round_up(n, 16) - n, std::uint16_t{0});
  }
}
HWY_INLINE Vector sixteen_scales(const std::uint16_t* at) {
  return hn::PromoteTo(Lanes32(), hn::LoadU(Lanes16(), reinterpret_cast<const hwy::float16_t*>(at)));
}

// Two sums for each of up to four heads, as names because they must be registers.
template <int kHeads>
struct HighAndLow {
  Words high0, low0, high1, low1, high2, low2, high3, low3;
  HWY_INLINE void clear() {
    each([](std::size_t, Words& high, Words& low) LACAKE_IN_REGISTERS { high = low = all(0); });
  }
  // use(head, high, low)
  template <class Use>
  HWY_INLINE void each(const Use& use) {
    use(0, high0, low0);
    if constexpr (kHeads > 1) use(1, high1, low1);
    if constexpr (kHeads > 2) use(2, high2, low2);
    if constexpr (kHeads > 3) use(3, high3, low3);
  }
};

HWY_INLINE Vector whole(Words high, Words low, std::int32_t bias) {
  const LanesOfWords d;
  return hn::ConvertTo(Lanes32(), hn::Add(hn::Add(hn::ShiftLeft<8>(high), low), hn::Set(d, bias)));
}

// Products of sixteen keys with the queries of kHeads heads -> weights [kDecodePiece, kHeads], at the keys' place.
//   scales  [kDecodePiece, n_blocks], at the keys' place
//   q       [n_blocks, kHeads]
template <class Bytes, int kHeads>
HWY_INLINE void multiply_sixteen(const std::byte* keys, std::size_t stride, std::size_t n_blocks,
                                 const std::uint16_t* scales, const QueryBlock* q, float* weights) {
  const Lanes32 d;
  Vector sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  for (std::size_t b = 0; b < n_blocks; ++b, keys += Bytes::kBlock) {
    HighAndLow<kHeads> sums;
    sums.clear();
    Bytes::for_words(keys, stride, [&](std::size_t i, Words words) LACAKE_IN_REGISTERS {
      sums.each([&](std::size_t h, Words& high, Words& low) LACAKE_IN_REGISTERS {
        const FourNumbers& by = q[h * n_blocks + b].numbers[i];
        high = multiply_bytes(words, by.high, high);
        low = multiply_bytes(words, by.low, low);
      });
    });
    const Vector scale = sixteen_scales(scales + b * kDecodePiece);
    sums.each([&](std::size_t h, Words& high, Words& low) LACAKE_IN_REGISTERS {
      const QueryBlock& by = q[h * n_blocks + b];
      Vector& sum = h == 0 ? sum0 : h == 1 ? sum1 : h == 2 ? sum2 : sum3;
      sum = hn::MulAdd(whole(high, low, by.bias), hn::Mul(scale, hn::Set(d, by.scale)), sum);
    });
  }
  hn::StoreU(sum0, d, weights);
  if constexpr (kHeads > 1) hn::StoreU(sum1, d, weights + kDecodePiece);
  if constexpr (kHeads > 2) hn::StoreU(sum2, d, weights + 2 * kDecodePiece);
  if constexpr (kHeads > 3) hn::StoreU(sum3, d, weights + 3 * kDecodePiece);
}

// The weights of a piece's rows times the scales of one of their blocks.
struct BlockWeights {
  FourNumbers numbers[kDecodePiece / 4];
};
static_assert(sizeof(BlockWeights) == kBlockWeightsFloats * sizeof(float));

// One block of n <= kDecodePiece rows, times their weights -> out[0 .. 31] of each head, added.
//   scales   [n] f16, and as weights 0 from there on to the next multiple of 16
//   weights  [kDecodePiece, kHeads]
//   split    [kHeads] scratch
//   ahead    bytes to be brought near meanwhile, a block's worth a row, or null
template <class Bytes, int kHeads>
HWY_INLINE void add_weighted_block(const std::byte* block, std::size_t stride, std::size_t n,
                                   const std::uint16_t* scales, const float* weights, BlockWeights* split, float* out,
                                   std::size_t out_stride, const std::byte* ahead) {
  const Lanes32 d;
  float scale[kHeads];
  std::int32_t bias[kHeads];
  for (std::size_t h = 0; h < kHeads; ++h) {
    scale[h] = split_numbers(round_up(n, 16), Bytes::kOffset, split[h].numbers, bias[h],
                             [&](std::size_t i) LACAKE_IN_REGISTERS {
                               return hn::Mul(hn::LoadU(d, weights + h * kDecodePiece + i), sixteen_scales(scales + i));
                             });
  }
  HighAndLow<kHeads> first, second;
  first.clear();
  second.clear();
  const auto add_four = [&](const std::byte* rows, std::size_t rows_stride, const FourNumbers* by) LACAKE_IN_REGISTERS {
    Bytes::for_halves(rows, rows_stride, [&](std::size_t half, Words bytes) LACAKE_IN_REGISTERS {
      (half == 0 ? first : second).each([&](std::size_t h, Words& high, Words& low) LACAKE_IN_REGISTERS {
        high = multiply_bytes(bytes, by[h * (kDecodePiece / 4)].high, high);
        low = multiply_bytes(bytes, by[h * (kDecodePiece / 4)].low, low);
      });
    });
  };
  const FourNumbers* by = split[0].numbers;
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4, block += 4 * stride, ++by) {
    if (ahead) bring_far(ahead + i * Bytes::kBlock, 4 * Bytes::kBlock);
    add_four(block, stride, by);
  }
  if (i < n) {  // the last rows with what follows them made up: their weights are 0
    std::byte rest[4 * Bytes::kBlock] = {};
    for (std::size_t x = 0; i + x < n; ++x) {
      std::memcpy(rest + x * Bytes::kBlock, block + x * stride, Bytes::kBlock);
    }
    add_four(rest, Bytes::kBlock, by);
  }
  const auto leave = [&](HighAndLow<kHeads>& sums, std::size_t x) LACAKE_IN_REGISTERS {
    sums.each([&](std::size_t h, Words& high, Words& low) LACAKE_IN_REGISTERS {
      float* to = out + h * out_stride + x;
      hn::StoreU(hn::MulAdd(whole(high, low, bias[h]), hn::Set(d, scale[h]), hn::LoadU(d, to)), d, to);
    });
  };
  leave(first, 0);
  leave(second, 16);
}

#endif  // LACAKE_ATTENTION_VNNI

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_BYTES_INL_H_
