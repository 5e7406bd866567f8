// Vectors of 32 bytes: AVX2, which multiplies bytes into sums of 16 bits, and AVX-VNNI (LACAKE_INT8_VNNI), which sums
// in 32. See int8_targets.h.

namespace lacake::matmul::LACAKE_INT8_TARGET {
namespace {

using Vector = __m256i;
using Floats = __m256;
constexpr std::size_t kLanes = 8;          // rows of a vector
constexpr std::size_t kPackedColumns = 2;  // at a time: sums for more would not fit 16 registers
constexpr std::size_t kTileColumns = 3;
// Blocks that a packed matrix is called for ahead. On a Zen 3, which has no more than AVX2, two threads read Q4_1 a
// tenth faster with 4 than with 8, and a fifth slower without.
constexpr std::size_t kAheadSteps = LACAKE_INT8_VNNI ? 8 : 4;

HWY_INLINE Vector load(const void* at) { return _mm256_loadu_si256((const __m256i*)at); }
HWY_INLINE Vector every_byte(int x) { return _mm256_set1_epi8((char)x); }
HWY_INLINE Vector every_four(std::int32_t four) { return _mm256_set1_epi32(four); }
HWY_INLINE Vector both(Vector a, Vector b) { return _mm256_and_si256(a, b); }
HWY_INLINE Vector either(Vector a, Vector b) { return _mm256_or_si256(a, b); }
// In words of 16 bits.
template <unsigned n>
HWY_INLINE Vector shifted_right(Vector x) {
  return _mm256_srli_epi16(x, n);
}
template <unsigned n>
HWY_INLINE Vector shifted_left(Vector x) {
  return _mm256_slli_epi16(x, n);
}
// 16 in each byte whose bit is set.
HWY_INLINE Vector sixteens(const std::byte* bits) {
  std::int32_t all;
  std::memcpy(&all, bits, sizeof all);
  const Vector from = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const Vector bit = _mm256_set1_epi64x((long long)0x8040201008040201);
  const Vector own = both(_mm256_shuffle_epi8(every_four(all), from), bit);
  return both(_mm256_cmpeq_epi8(own, bit), every_byte(16));
}
HWY_INLINE Vector looked_up(const std::uint8_t* table, Vector x) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)), x);
}
HWY_INLINE Vector sum(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
HWY_INLINE Vector difference(Vector a, Vector b) { return _mm256_sub_epi32(a, b); }

// Sums of products of unsigned bytes (0 to 2^bits - 1) with signed ones (-127 to 127), four neighbours a lane; four of
// them or eight.
#if LACAKE_INT8_VNNI
constexpr int kEightBitZero = 0;  // Dots<8> are of w itself
template <int bits>
struct Dots {
  Vector sums;
  // i: how many went before.
  HWY_INLINE void add(Vector w, Vector x, std::size_t i) {
    sums = _mm256_dpbusd_avx_epi32(i == 0 ? _mm256_setzero_si256() : sums, w, x);
  }
};
#else
constexpr int kEightBitZero = 128;  // Dots<8> are of w - 128
template <int bits>
struct Dots {
  // A sum of 16 bits has two products of bytes, and room for as many of these pairs.
  static constexpr std::size_t kFit = bits <= 5 ? 4 : bits == 6 ? 2 : 1;
  static_assert(bits == 8 || kFit * 2 * ((1 << bits) - 1) * 127 <= 32767);
  Vector words, sums;
  // i: how many went before.
  HWY_INLINE void add(Vector w, Vector x, std::size_t i) {
    Vector pairs;
    if constexpr (bits == 8) {
      // Bytes above 127 would overflow: the sign goes to the other side, 128 * 127 twice has room.
      const Vector centred = _mm256_xor_si256(w, every_byte(0x80));
      pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(x, centred));
    } else {
      pairs = _mm256_maddubs_epi16(w, x);
    }
    words = i % kFit == 0 ? pairs : _mm256_add_epi16(words, pairs);
    if ((i + 1) % kFit != 0) return;
    const Vector fours = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
    sums = i < kFit ? fours : sum(sums, fours);
  }
};
#endif

HWY_INLINE Floats zero() { return _mm256_setzero_ps(); }
HWY_INLINE Floats every(float x) { return _mm256_set1_ps(x); }
HWY_INLINE Floats load_floats(const float* at) { return _mm256_loadu_ps(at); }
HWY_INLINE Floats floats(Vector x) { return _mm256_cvtepi32_ps(x); }
HWY_INLINE Floats f16s_at(const std::byte* at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)at)); }
HWY_INLINE Floats bytes_at(const std::byte* at) {
  return floats(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)at)));
}
HWY_INLINE Floats signed_bytes_at(const std::byte* at) {
  return floats(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)at)));
}
HWY_INLINE Floats product(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
HWY_INLINE Floats minus(Floats x) { return _mm256_sub_ps(zero(), x); }
HWY_INLINE Floats multiply_add(Floats a, Floats b, Floats sum) { return _mm256_fmadd_ps(a, b, sum); }
// The first n rows, all if there are more.
HWY_INLINE void store(Floats x, std::size_t n, float* to) {
  const Vector lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int rows = n < kLanes ? (int)n : (int)kLanes;
  _mm256_maskstore_ps(to, _mm256_cmpgt_epi32(_mm256_set1_epi32(rows), lane), x);
}

}  // namespace
}  // namespace lacake::matmul::LACAKE_INT8_TARGET
