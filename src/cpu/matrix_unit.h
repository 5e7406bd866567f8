#pragma once

// A matrix unit: Intel's AMX. Eight registers, each a tile of 16 rows of 64 bytes, and instructions that multiply two
// tiles and add to a third. Written as what they are: compilers' own intrinsics ask for attributes that Highway's
// targets haven't got, and those of GCC 12 do not say which memory they read.

#include <cstddef>
#include <cstdint>

#include "hwy/base.h"

#if HWY_ARCH_X86_64 && HWY_OS_LINUX && HWY_COMPILER_GCC  // clang included
#define LACAKE_MATRIX_UNIT 1
#else
#define LACAKE_MATRIX_UNIT 0
#endif

namespace lacake::cpu {

// Whether this machine has one that multiplies bf16 and bytes, and lets this process use it. Asked once.
bool has_matrix_unit();

inline constexpr std::size_t kTileRows = 16;
inline constexpr std::size_t kTileRowBytes = 64;
inline constexpr std::size_t kTileBytes = kTileRows * kTileRowBytes;

#if LACAKE_MATRIX_UNIT

// This thread's registers, all eight whole, while it lives; then in the shape that they had, for others (ggml) set
// theirs once a thread. REQUIRES: has_matrix_unit().
class MatrixRegisters {
 public:
  MatrixRegisters() {
    asm volatile("sttilecfg %0" : "=m"(before_));
    Shape whole{.palette = 1};
    for (int i = 0; i < 8; ++i) whole.row_bytes[i] = kTileRowBytes, whole.rows[i] = kTileRows;
    asm volatile("ldtilecfg %0" ::"m"(whole));
  }
  ~MatrixRegisters() { asm volatile("ldtilecfg %0" ::"m"(before_)); }
  MatrixRegisters(const MatrixRegisters&) = delete;
  MatrixRegisters& operator=(const MatrixRegisters&) = delete;

 private:
  struct Shape {
    std::uint8_t palette = 0, start_row = 0, reserved[14] = {};  // palette 0: released
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  };
  Shape before_;
};

// Register t's rows, `stride` bytes from one to the next.
template <int t>
HWY_INLINE void load_tile(const void* from, std::size_t stride) {
  asm volatile("tileloadd (%[from],%[stride],1), %%tmm%c[t]" ::[from] "r"(from), [stride] "r"(stride), [t] "i"(t)
               : "memory");
}
template <int t>
HWY_INLINE void store_tile(void* to, std::size_t stride) {
  asm volatile("tilestored %%tmm%c[t], (%[to],%[stride],1)" ::[to] "r"(to), [stride] "r"(stride), [t] "i"(t)
               : "memory");
}
template <int t>
HWY_INLINE void clear_tile() {
  asm volatile("tilezero %%tmm%c[t]" ::[t] "i"(t));
}

// Register `sum`, [16, 16] of 32 bits, gains the products of a's rows with b's columns: along a row of `a` numbers
// stand in order; a row of b holds, for each of 16 columns, as many neighbours along the sum as fit 32 bits.

// bf16, summed in f32.
template <int sum, int a, int b>
HWY_INLINE void add_products_bf16() {
  asm volatile("tdpbf16ps %%tmm%c[b], %%tmm%c[a], %%tmm%c[sum]" ::[sum] "i"(sum), [a] "i"(a), [b] "i"(b));
}

// Bytes, summed in 32-bit integers: signed with signed, signed with unsigned, ...
template <int sum, int a, int b>
HWY_INLINE void add_products_ss() {
  asm volatile("tdpbssd %%tmm%c[b], %%tmm%c[a], %%tmm%c[sum]" ::[sum] "i"(sum), [a] "i"(a), [b] "i"(b));
}
template <int sum, int a, int b>
HWY_INLINE void add_products_su() {
  asm volatile("tdpbsud %%tmm%c[b], %%tmm%c[a], %%tmm%c[sum]" ::[sum] "i"(sum), [a] "i"(a), [b] "i"(b));
}
template <int sum, int a, int b>
HWY_INLINE void add_products_us() {
  asm volatile("tdpbusd %%tmm%c[b], %%tmm%c[a], %%tmm%c[sum]" ::[sum] "i"(sum), [a] "i"(a), [b] "i"(b));
}
template <int sum, int a, int b>
HWY_INLINE void add_products_uu() {
  asm volatile("tdpbuud %%tmm%c[b], %%tmm%c[a], %%tmm%c[sum]" ::[sum] "i"(sum), [a] "i"(a), [b] "i"(b));
}

#endif

}  // namespace lacake::cpu
