// Stored rows that turn into f32 in registers, one kind for each type that a cache may have.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention/attention.h"
#include "attention/vector_inl.h"
#include "hwy/cache_control.h"

#if defined(LACAKE_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LACAKE_ATTENTION_ROWS_INL_H_
#undef LACAKE_ATTENTION_ROWS_INL_H_
#else
#define LACAKE_ATTENTION_ROWS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// Rows at data + row * stride (bytes). load() gives the lanes from `column` on, a multiple of lanes() that has as many
// left; it is exactly what ggml's conversion gives.
struct RowsF32 {
  const std::byte* data;
  std::size_t stride;
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    return hn::LoadU(Lanes32(), reinterpret_cast<const float*>(data + row * stride) + column);
  }
};

struct RowsF16 {
  const std::byte* data;
  std::size_t stride;
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    const auto* from = reinterpret_cast<const hwy::float16_t*>(data + row * stride) + column;
    return hn::PromoteTo(Lanes32(), hn::LoadU(Lanes16(), from));
  }
};

struct RowsBF16 {
  const std::byte* data;
  std::size_t stride;
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    const hn::Repartition<std::uint32_t, Lanes32> wide;
    const hn::Rebind<std::uint16_t, Lanes32> narrow;
    const auto* from = reinterpret_cast<const std::uint16_t*>(data + row * stride) + column;
    return hn::BitCast(Lanes32(), hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, from))));
  }
};

// The scale that a block of 32 numbers starts with, in every lane.
HWY_INLINE Vector block_scale(const std::byte* block) {
  const hn::Rebind<std::uint16_t, Lanes32> narrow;
  std::uint16_t bits;
  std::memcpy(&bits, block, sizeof(bits));
  return hn::PromoteTo(Lanes32(), hn::BitCast(Lanes16(), hn::Set(narrow, bits)));
}

// Blocks of an f16 scale and 32 bytes.
struct RowsQ80 {
  const std::byte* data;
  std::size_t stride;
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    const hn::RebindToSigned<Lanes32> wide;
    const hn::Rebind<std::int8_t, Lanes32> narrow;
    const std::byte* block = data + row * stride + column / 32 * 34;
    const auto* from = reinterpret_cast<const std::int8_t*>(block + 2) + column % 32;
    const auto numbers = hn::ConvertTo(Lanes32(), hn::PromoteTo(wide, hn::LoadU(narrow, from)));
    return hn::Mul(numbers, block_scale(block));
  }
};

// Blocks of an f16 scale and 16 bytes: numbers 0 .. 15 in the lower halves, 16 .. 31 in the upper ones, 8 too large.
struct RowsQ40 {
  const std::byte* data;
  std::size_t stride;
  HWY_INLINE Vector load(std::size_t row, std::size_t column) const {
    const hn::RebindToSigned<Lanes32> wide;
    const hn::Rebind<std::uint8_t, Lanes32> narrow;
    const std::byte* block = data + row * stride + column / 32 * 18;
    const auto* from = reinterpret_cast<const std::uint8_t*>(block + 2) + column % 16;
    const auto bytes = hn::PromoteTo(wide, hn::LoadU(narrow, from));
    const auto halves = column % 32 < 16 ? hn::And(bytes, hn::Set(wide, 15)) : hn::ShiftRight<4>(bytes);
    return hn::Mul(hn::ConvertTo(Lanes32(), hn::Sub(halves, hn::Set(wide, 8))), block_scale(block));
  }
};

// Calls use(rows) with the rows' own kind; false for types that have none.
template <class Use>
HWY_INLINE bool with_rows(ggml_type type, const void* data, std::size_t stride, const Use& use) {
  const auto* bytes = static_cast<const std::byte*>(data);
  switch (type) {
    case GGML_TYPE_F32:
      use(RowsF32{bytes, stride});
      return true;
    case GGML_TYPE_F16:
      use(RowsF16{bytes, stride});
      return true;
    case GGML_TYPE_BF16:
      use(RowsBF16{bytes, stride});
      return true;
    case GGML_TYPE_Q8_0:
      use(RowsQ80{bytes, stride});
      return true;
    case GGML_TYPE_Q4_0:
      use(RowsQ40{bytes, stride});
      return true;
    default:
      return false;
  }
}

// Asks for the cache lines of `bytes` from `from` on to be brought near: into L1, or, for what is used later, into L2,
// which has far more of its requests under way at a time.
HWY_INLINE void bring(const std::byte* from, std::size_t bytes) {
  for (std::size_t x = 0; x < bytes; x += 64) hwy::Prefetch(from + x);
}
HWY_INLINE void bring_far(const std::byte* from, std::size_t bytes) {
#if HWY_COMPILER_GCC  // clang included
  for (std::size_t x = 0; x < bytes; x += 64) __builtin_prefetch(from + x, /*for writing*/ 0, /*locality*/ 2);
#else
  bring(from, bytes);
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#endif  // LACAKE_ATTENTION_ROWS_INL_H_
