#pragma once

// Blocks of quantised weights as GGUF files store them (facts of the format; little endian, no padding).

#include <cstddef>
#include <cstdint>

#include "ggml.h"

namespace lacake::matmul {

struct BlockQ4_0 {
  static constexpr int kWeights = 32;
  ggml_fp16_t scale;
  std::uint8_t q[16];  // weight i in the low half of byte i, weight 16 + i in the high half; w = scale * (q - 8)
};

struct BlockQ4_1 {
  static constexpr int kWeights = 32;
  ggml_fp16_t scale;
  ggml_fp16_t least;  // w = scale * q + least
  std::uint8_t q[16];
};

struct BlockQ5_0 {
  static constexpr int kWeights = 32;
  ggml_fp16_t scale;
  std::uint8_t fifth_bits[4];  // bit i of the 32: the highest bit of weight i; w = scale * (q - 16)
  std::uint8_t q[16];
};

struct BlockQ5_1 {
  static constexpr int kWeights = 32;
  ggml_fp16_t scale;
  ggml_fp16_t least;
  std::uint8_t fifth_bits[4];
  std::uint8_t q[16];
};

struct BlockQ8_0 {
  static constexpr int kWeights = 32;
  ggml_fp16_t scale;
  std::int8_t q[32];
};

// 8 blocks of 32 under one pair of scales: w = scale * s * q - least * m, with s and m of 6 bits for each block. Blocks
// 2i and 2i + 1 are the low and the high halves of bytes 32i .. 32i + 31.
struct BlockQ4_K {
  static constexpr int kWeights = 256;
  ggml_fp16_t scale;
  ggml_fp16_t least;
  std::uint8_t scales[12];
  std::uint8_t q[128];
};

struct BlockQ5_K {
  static constexpr int kWeights = 256;
  ggml_fp16_t scale;
  ggml_fp16_t least;
  std::uint8_t scales[12];
  std::uint8_t fifth_bits[32];  // bit b of byte i: the highest bit of weight i of block b
  std::uint8_t q[128];
};

// 16 blocks of 16 under one scale: w = scale * s * (q - 32). A half of 128 weights has its low 4 bits in 64 bytes q and
// its high 2 bits in 32 bytes: of quarter j of the half, weight i, the low ones in byte 32 * (j % 2) + i, below for the
// first two quarters and above for the others, the high ones in bits 2j and 2j + 1 of byte i.
struct BlockQ6_K {
  static constexpr int kWeights = 256;
  std::uint8_t q[128];
  std::uint8_t high_bits[64];
  std::int8_t scales[16];
  ggml_fp16_t scale;
};

// What the 16 numbers of 4 bits of IQ4_NL and IQ4_XS stand for, 128 added. A block of IQ4_NL is one of Q4_0 with
// w = scale * (value of q - 128).
inline constexpr std::uint8_t kIq4Values[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                129, 141, 153, 166, 181, 197, 217, 241};

// 8 blocks of that under one scale: w = scale * (s - 32) * (value of q - 128), with an s of 6 bits for each block: its
// low four in half of a byte, its high two in a pair of bits, both from the lowest on.
struct BlockIQ4_XS {
  static constexpr int kWeights = 256;
  ggml_fp16_t scale;
  std::uint16_t high_scales;
  std::uint8_t low_scales[4];
  std::uint8_t q[128];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_XS) == 136);

// The 6-bit scale and minimum of block i of a Q4_K or Q5_K: those of blocks 0-3 are the low bits of bytes 0-3 and 4-7;
// those of blocks 4-7 have their low halves in bytes 8-11, their highest two bits on top of bytes 0-3 and 4-7.
struct SixBits {
  int scale;
  int least;
};
inline SixBits six_bits(const std::uint8_t* scales, std::size_t i) {
  if (i < 4) return {scales[i] & 63, scales[i + 4] & 63};
  return {(scales[i + 4] & 15) | (scales[i - 4] >> 6 << 4), (scales[i + 4] >> 4) | (scales[i] >> 6 << 4)};
}

// 16 bytes -> q [32]: the lower halves, then the upper ones.
inline void unpack_nibbles(const std::uint8_t* packed, std::uint8_t* q) {
  for (std::size_t i = 0; i < 16; ++i) {
    q[i] = packed[i] & 0x0f;
    q[i + 16] = packed[i] >> 4;
  }
}

// Numbers 32 * part .. 32 * part + 31 of a block of 256 -> q [32], as they are stored: unsigned.
inline void numbers_of(const BlockQ4_K& b, std::size_t part, std::uint8_t* q) {
  const std::uint8_t* from = b.q + part / 2 * 32;
  for (std::size_t i = 0; i < 32; ++i) q[i] = part % 2 ? from[i] >> 4 : from[i] & 15;
}
inline void numbers_of(const BlockQ5_K& b, std::size_t part, std::uint8_t* q) {
  const std::uint8_t* from = b.q + part / 2 * 32;
  for (std::size_t i = 0; i < 32; ++i) {
    const int low = part % 2 ? from[i] >> 4 : from[i] & 15;
    q[i] = (std::uint8_t)(low | ((b.fifth_bits[i] >> part & 1) << 4));
  }
}
inline void numbers_of(const BlockIQ4_XS& b, std::size_t part, std::uint8_t* q) { unpack_nibbles(b.q + part * 16, q); }
inline void numbers_of(const BlockQ6_K& b, std::size_t part, std::uint8_t* q) {
  const std::size_t half = part / 4, quarter = part % 4;
  const std::uint8_t *from = b.q + half * 64 + quarter % 2 * 32, *high = b.high_bits + half * 32;
  for (std::size_t i = 0; i < 32; ++i) {
    q[i] = (std::uint8_t)((from[i] >> (quarter / 2 * 4) & 15) | ((high[i] >> (2 * quarter) & 3) << 4));
  }
}

}  // namespace lacake::matmul
