#pragma once

// How a block of a packed tile is laid out, by type. See packed.h.

#include <cstddef>
#include <cstdint>

#include "product/matrix.h"

namespace lacake::product {

struct PackedFormat {
  int bits;        // 4, 5 or 8
  bool has_least;  // w = scale * q + least, else scale * (q - zero)
  int zero;

  constexpr std::size_t least() const { return kTileRows * sizeof(ggml_fp16_t); }
  constexpr std::size_t fifth() const { return least() + (has_least ? kTileRows * sizeof(ggml_fp16_t) : 0); }
  constexpr std::size_t values() const { return fifth() + (bits == 5 ? kTileRows * kBlock / 8 : 0); }
  constexpr std::size_t bytes() const { return values() + kTileRows * kBlock * (bits == 8 ? 8 : 4) / 8; }
};

inline constexpr PackedFormat kPackedQ4_0 = {4, false, 8};
inline constexpr PackedFormat kPackedQ4_1 = {4, true, 0};
inline constexpr PackedFormat kPackedQ5_0 = {5, false, 16};
inline constexpr PackedFormat kPackedQ5_1 = {5, true, 0};
inline constexpr PackedFormat kPackedQ8_0 = {8, false, 128};

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
    default:
      return false;
  }
}

}  // namespace lacake::product
