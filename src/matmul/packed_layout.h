#pragma once

// How a block of a packed tile is laid out, by type. See packed.h.

#include <cstddef>
#include <cstdint>

#include "matmul/matrix.h"

namespace lacake::matmul {

// A block has the scales of its rows, then parts of kBlock columns: one, or the eight of a K quantisation, each with
// finer scales of 8 bits. What is where is said in packed.h.
struct PackedFormat {
  int bits;        // 4, 5, 6 or 8
  bool has_least;  // w = scale * q + least, else scale * (q - zero)
  int zero;
  std::size_t n_parts = 1;
  bool has_values = false;  // q stands for one of kIq4Values

  constexpr bool is_k() const { return n_parts > 1; }
  // Whether the finer scales are of half a part each, with sign; else they are of scales and of minima.
  constexpr bool has_halves() const { return is_k() && !has_least; }
  constexpr std::size_t columns() const { return n_parts * kBlock; }
  // Bytes from a block's start.
  constexpr std::size_t least() const { return kTileRows * sizeof(ggml_fp16_t); }
  constexpr std::size_t part(std::size_t i) const {
    return least() + (has_least ? kTileRows * sizeof(ggml_fp16_t) : 0) + i * part_bytes();
  }
  constexpr std::size_t bytes() const { return part(n_parts); }
  // Bytes from a part's start; its finer scales come first.
  constexpr std::size_t second_fine() const { return kTileRows; }
  constexpr std::size_t upper() const { return is_k() ? 2 * kTileRows : 0; }
  constexpr std::size_t values() const {
    return upper() + (bits < 8 ? (std::size_t)(bits - 4) * kTileRows * kBlock / 8 : 0);
  }
  constexpr std::size_t part_bytes() const { return values() + kTileRows * kBlock * (bits == 8 ? 8 : 4) / 8; }
};

inline constexpr PackedFormat kPackedQ4_0 = {4, false, 8};
inline constexpr PackedFormat kPackedQ4_1 = {4, true, 0};
inline constexpr PackedFormat kPackedQ5_0 = {5, false, 16};
inline constexpr PackedFormat kPackedQ5_1 = {5, true, 0};
inline constexpr PackedFormat kPackedQ8_0 = {8, false, 128};
inline constexpr PackedFormat kPackedQ4_K = {4, true, 0, 8};
inline constexpr PackedFormat kPackedQ5_K = {5, true, 0, 8};
inline constexpr PackedFormat kPackedQ6_K = {6, false, 32, 8};
inline constexpr PackedFormat kPackedIQ4_NL = {4, false, 128, 1, true};
inline constexpr PackedFormat kPackedIQ4_XS = {4, false, 128, 8, true};

// Calls use.operator()<format>() for a type that is packed; false for another.
template <class Use>
bool with_packed_format(ggml_type type, const Use& use) {
  switch (type) {
    case GGML_TYPE_Q4_0:
      return use.template operator()<kPackedQ4_0>(), true;
    case GGML_TYPE_Q4_1:
      return use.template operator()<kPackedQ4_1>(), true;
    case GGML_TYPE_Q5_0:
      return use.template operator()<kPackedQ5_0>(), true;
    case GGML_TYPE_Q5_1:
      return use.template operator()<kPackedQ5_1>(), true;
    case GGML_TYPE_Q8_0:
      return use.template operator()<kPackedQ8_0>(), true;
    case GGML_TYPE_Q4_K:
      return use.template operator()<kPackedQ4_K>(), true;
    case GGML_TYPE_Q5_K:
      return use.template operator()<kPackedQ5_K>(), true;
    case GGML_TYPE_Q6_K:
      return use.template operator()<kPackedQ6_K>(), true;
    case GGML_TYPE_IQ4_NL:
      return use.template operator()<kPackedIQ4_NL>(), true;
    case GGML_TYPE_IQ4_XS:
      return use.template operator()<kPackedIQ4_XS>(), true;
    default:
      return false;
  }
}

}  // namespace lacake::matmul
