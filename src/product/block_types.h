#pragma once

// Blocks of quantised weights as GGUF files store them (facts of the format; little endian, no padding).

#include <cstdint>

#include "ggml.h"

namespace lacake::product {

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

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176);

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

}  // namespace lacake::product
