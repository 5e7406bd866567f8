// Vectors of 64 bytes with products of bytes (AVX-512 VNNI). See int8_targets.h.

namespace lacake::matmul::LACAKE_INT8_TARGET {
namespace {

using Vector = __m512i;
using Floats = __m512;
constexpr std::size_t kLanes = 16;         // rows of a vector
constexpr std::size_t kPackedColumns = 4;  // at a time
constexpr std::size_t kTileColumns = 6;
constexpr std::size_t kAheadSteps = 8;  // blocks that a packed matrix is called for ahead
constexpr int kEightBitZero = 0;        // Dots<8> are of w itself

HWY_INLINE Vector load(const void* at) { return _mm512_loadu_si512(at); }
HWY_INLINE Vector every_byte(int x) { return _mm512_set1_epi8((char)x); }
HWY_INLINE Vector every_four(std::int32_t four) { return _mm512_set1_epi32(four); }
HWY_INLINE Vector both(Vector a, Vector b) { return _mm512_and_si512(a, b); }
HWY_INLINE Vector either(Vector a, Vector b) { return _mm512_or_si512(a, b); }
// In words of 16 bits.
template <unsigned n>
HWY_INLINE Vector shifted_right(Vector x) {
  return _mm512_srli_epi16(x, n);
}
template <unsigned n>
HWY_INLINE Vector shifted_left(Vector x) {
  return _mm512_slli_epi16(x, n);
}
// 16 in each byte whose bit is set.
HWY_INLINE Vector sixteens(const std::byte* bits) {
  std::uint64_t all;
  std::memcpy(&all, bits, sizeof all);
  return _mm512_maskz_set1_epi8(all, 16);
}
HWY_INLINE Vector looked_up(const std::uint8_t* table, Vector x) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), x);
}

// Sums of products of unsigned bytes (0 to 2^bits - 1) with signed ones, four neighbours a lane; at most eight of them.
template <int bits>
struct Dots {
  Vector sums;
  // i: how many went before.
  HWY_INLINE void add(Vector w, Vector x, std::size_t i) {
    sums = _mm512_dpbusd_epi32(i == 0 ? _mm512_setzero_si512() : sums, w, x);
  }
};
HWY_INLINE Vector sum(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
HWY_INLINE Vector difference(Vector a, Vector b) { return _mm512_sub_epi32(a, b); }

HWY_INLINE Floats zero() { return _mm512_setzero_ps(); }
HWY_INLINE Floats every(float x) { return _mm512_set1_ps(x); }
HWY_INLINE Floats load_floats(const float* at) { return _mm512_loadu_ps(at); }
HWY_INLINE Floats floats(Vector x) { return _mm512_cvtepi32_ps(x); }
HWY_INLINE Floats f16s_at(const std::byte* at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)at)); }
HWY_INLINE Floats bytes_at(const std::byte* at) {
  return floats(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)at)));
}
HWY_INLINE Floats signed_bytes_at(const std::byte* at) {
  return floats(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)at)));
}
HWY_INLINE Floats product(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
HWY_INLINE Floats minus(Floats x) { return _mm512_sub_ps(zero(), x); }
HWY_INLINE Floats multiply_add(Floats a, Floats b, Floats sum) { return _mm512_fmadd_ps(a, b, sum); }
// The first n rows, all if there are more.
HWY_INLINE void store(Floats x, std::size_t n, float* to) {
  _mm512_mask_storeu_ps(to, n < kLanes ? (__mmask16)((1u << n) - 1) : (__mmask16)0xffff, x);
}

}  // namespace
}  // namespace lacake::matmul::LACAKE_INT8_TARGET
