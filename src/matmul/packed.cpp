#include "matmul/packed.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "matmul/block_types.h"
#include "matmul/packed_layout.h"

namespace lacake::matmul {
namespace {

// Bit i of a block's fifth bits.
std::uint64_t fifth_bit(const std::uint8_t* bits, std::size_t i) { return bits[i / 8] >> (i % 8) & 1; }

// Block `b` of a row goes to lane `row` of its packed block.
template <PackedFormat f, class Block>
requires(!f.is_k()) void place(const Block& b, std::size_t row, std::byte* to) {
  std::memcpy(to + row * 2, &b.scale, 2);
  if constexpr (f.has_least) std::memcpy(to + f.least() + row * 2, &b.least, 2);
  std::byte* part = to + f.part(0);
  if constexpr (f.bits == 5) {
    auto* words = (std::uint64_t*)(part + f.upper());
    for (std::size_t k = 0; k < kBlock; ++k) {
      words[k / 4 * 2 + row / 16] |= fifth_bit(b.fifth_bits, k) << (row % 16 * 4 + k % 4);
    }
  }
  std::byte* values = part + f.values() + row * 4;
  for (std::size_t i = 0; i < sizeof b.q; i += 4, values += 4 * kTileRows) {
    std::uint32_t four;
    std::memcpy(&four, b.q + i, 4);
    if constexpr (f.bits == 8) four ^= 0x80808080;
    std::memcpy(values, &four, 4);
  }
}

// The same of a K quantisation.
void place_fine(const BlockQ6_K& b, std::size_t part, std::size_t row, std::byte* to) {
  std::memcpy(to + row, b.scales + 2 * part, 1);
  std::memcpy(to + kTileRows + row, b.scales + 2 * part + 1, 1);
}
void place_fine(const BlockIQ4_XS& b, std::size_t part, std::size_t row, std::byte* to) {
  const int six = (b.low_scales[part / 2] >> (part % 2 * 4) & 15) | (b.high_scales >> (2 * part) & 3) << 4;
  to[row] = to[kTileRows + row] = (std::byte)(std::int8_t)(six - 32);
}
template <class Block>
void place_fine(const Block& b, std::size_t part, std::size_t row, std::byte* to) {
  const SixBits six = six_bits(b.scales, part);
  to[row] = (std::byte)six.scale;
  to[kTileRows + row] = (std::byte)six.least;
}
template <PackedFormat f, class Block>
requires(f.is_k()) void place(const Block& b, std::size_t row, std::byte* to) {
  std::memcpy(to + row * 2, &b.scale, 2);
  if constexpr (f.has_least) std::memcpy(to + f.least() + row * 2, &b.least, 2);
  for (std::size_t p = 0; p < f.n_parts; ++p) {
    std::byte* part = to + f.part(p);
    place_fine(b, p, row, part);
    std::uint8_t q[kBlock];
    numbers_of(b, p, q);
    std::uint32_t four[kBlock / 4], upper[2] = {};  // a number a byte
    std::memcpy(four, q, sizeof q);
    for (std::size_t g = 0; g < 4; ++g) {
      const std::uint32_t word = (four[g] & 0x0f0f0f0f) | (four[g + 4] & 0x0f0f0f0f) << 4;
      std::memcpy(part + f.values() + (g * kTileRows + row) * 4, &word, 4);
    }
    for (std::size_t g = 0; f.bits == 5 && g < 8; ++g) {
      // The bits of four bytes side by side in the highest one.
      const std::uint64_t bits = (four[g] >> 4 & 0x01010101) * 0x01020408u >> 24;
      ((std::uint64_t*)(part + f.upper()))[g * 2 + row / 16] |= bits << (row % 16 * 4);
    }
    for (std::size_t g = 0; g < 8; ++g) upper[g % 2] |= (four[g] >> 4 & 0x03030303) << (g / 2 * 2);
    for (std::size_t u = 0; f.bits == 6 && u < 2; ++u) {
      std::memcpy(part + f.upper() + (u * kTileRows + row) * 4, &upper[u], 4);
    }
  }
}

// What a file stores of a format.
template <class B>
struct As {
  using Block = B;
};
template <PackedFormat f>
struct Stored;
template <>
struct Stored<kPackedQ4_0> : As<BlockQ4_0> {};
template <>
struct Stored<kPackedQ4_1> : As<BlockQ4_1> {};
template <>
struct Stored<kPackedQ5_0> : As<BlockQ5_0> {};
template <>
struct Stored<kPackedQ5_1> : As<BlockQ5_1> {};
template <>
struct Stored<kPackedQ8_0> : As<BlockQ8_0> {};
template <>
struct Stored<kPackedQ4_K> : As<BlockQ4_K> {};
template <>
struct Stored<kPackedQ5_K> : As<BlockQ5_K> {};
template <>
struct Stored<kPackedQ6_K> : As<BlockQ6_K> {};
template <>
struct Stored<kPackedIQ4_NL> : As<BlockQ4_0> {};
template <>
struct Stored<kPackedIQ4_XS> : As<BlockIQ4_XS> {};

template <PackedFormat f>
void pack(const Matrix& m, std::byte* to, const Packed::RowsRead& read) {
  constexpr std::size_t kPiece = 4 << 20;
  const std::size_t n_blocks = m.n_in / f.columns(), tile_bytes = n_blocks * f.bytes();
  const std::size_t at_once = std::max<std::size_t>(kPiece / m.row_bytes(), 1);
  for (std::size_t i = 0; i < m.n_out; ++i) {
    const auto* row = (const typename Stored<f>::Block*)m.row(i);
    std::byte* tile = to + i / kTileRows * tile_bytes;
    if (i % kTileRows == 0) std::memset(tile, 0, tile_bytes);
    for (std::size_t b = 0; b < n_blocks; ++b) place<f>(row[b], i % kTileRows, tile + b * f.bytes());
    const std::size_t n_read = i + 1;
    if (read && (n_read % at_once == 0 || n_read == m.n_out)) read(i / at_once * at_once, n_read);
  }
}

float f16_at(const std::byte* at, std::size_t i) {
  ggml_fp16_t x;
  std::memcpy(&x, at + i * 2, 2);
  return ggml_fp16_to_fp32(x);
}

// The 4 unsigned weights of columns 4g .. 4g + 3 of a row, one a byte.
template <PackedFormat f>
std::uint32_t four_weights(const std::byte* part, std::size_t g, std::size_t row) {
  std::uint32_t bytes;
  if constexpr (f.bits == 8) {
    std::memcpy(&bytes, part + f.values() + (g * kTileRows + row) * 4, 4);
    return bytes;
  }
  std::memcpy(&bytes, part + f.values() + (g % 4 * kTileRows + row) * 4, 4);
  bytes = bytes >> (g < 4 ? 0 : 4) & 0x0f0f0f0f;
  if constexpr (f.bits == 5) {
    std::uint64_t word;
    std::memcpy(&word, part + f.upper() + (g * 2 + row / 16) * 8, 8);
    const auto bits = (std::uint32_t)(word >> (row % 16 * 4) & 15);
    bytes |= (bits & 1) << 4 | (bits & 2) << 11 | (bits & 4) << 18 | (bits & 8) << 25;
  }
  if constexpr (f.bits == 6) {
    std::uint32_t upper;
    std::memcpy(&upper, part + f.upper() + (g % 2 * kTileRows + row) * 4, 4);
    bytes |= (upper >> (g / 2 * 2) & 0x03030303) << 4;
  }
  if constexpr (f.has_values) {
    std::uint8_t each[4];
    std::memcpy(each, &bytes, 4);
    for (std::uint8_t& q : each) q = kIq4Values[q];
    std::memcpy(&bytes, each, 4);
  }
  return bytes;
}

// w = scale * q + offset, of a row in columns 16 * half .. of a part.
struct Line {
  float scale, offset;
};
template <PackedFormat f>
Line line_of(const std::byte* block, std::size_t p, std::size_t half, std::size_t row) {
  const float scale = f16_at(block, row);
  const std::byte* fine = block + f.part(p) + row;
  if constexpr (f.has_halves()) {
    const float finer = scale * (float)(std::int8_t)fine[half * f.second_fine()];
    return {finer, -(float)f.zero * finer};
  }
  if constexpr (f.is_k()) {
    return {scale * (float)(std::uint8_t)fine[0],
            -f16_at(block + f.least(), row) * (float)(std::uint8_t)fine[f.second_fine()]};
  }
  return {scale, f.has_least ? f16_at(block + f.least(), row) : -(float)f.zero * scale};
}

// Calls use(block, part, number of the part) for every part of `n_in` columns.
template <PackedFormat f, class Use>
void for_parts(const std::byte* packed, std::size_t n_in, const Use& use) {
  for (std::size_t i = 0; i < n_in / kBlock; ++i) use(packed + i / f.n_parts * f.bytes(), i % f.n_parts, i);
}

template <PackedFormat f>
void unpack_bytes(const std::byte* packed, std::size_t n_in, const Tile& to) {
  for_parts<f>(packed, n_in, [&](const std::byte* block, std::size_t p, std::size_t i) {
    for (std::size_t row = 0; row < kTileRows; ++row) {
      const Line line = line_of<f>(block, p, 0, row);
      to.scales[i * kTileRows + row] = line.scale;
      to.offsets[i * kTileRows + row] = line.offset;
    }
    auto* values = (std::uint32_t*)(to.values + i * kBlock * kTileRows);
    for (std::size_t g = 0; g < kBlock / 4; ++g) {
      for (std::size_t row = 0; row < kTileRows; ++row) {
        values[g * kTileRows + row] = four_weights<f>(block + f.part(p), g, row);
      }
    }
  });
}

// The 32 weights of a row in a part -> to[0], to[stride] ...
template <PackedFormat f>
void part_as_floats(const std::byte* block, std::size_t p, std::size_t row, float* to, std::size_t stride) {
  for (std::size_t half = 0; half < 2; ++half) {
    const Line line = line_of<f>(block, p, half, row);
    for (std::size_t g = 4 * half; g < 4 * half + 4; ++g) {
      const std::uint32_t four = four_weights<f>(block + f.part(p), g, row);
      for (std::size_t j = 0; j < 4; ++j, to += stride) *to = (float)(four >> (j * 8) & 255) * line.scale + line.offset;
    }
  }
}

template <PackedFormat f>
void unpack_floats(const std::byte* packed, std::size_t n_in, float* tile) {
  for_parts<f>(packed, n_in, [&](const std::byte* block, std::size_t p, std::size_t i) {
    for (std::size_t row = 0; row < kTileRows; ++row) {
      part_as_floats<f>(block, p, row, tile + i * kBlock * kTileRows + row, kTileRows);
    }
  });
}

template <PackedFormat f>
void read_floats(const std::byte* packed, std::size_t n_in, std::size_t row, float* out) {
  for_parts<f>(packed, n_in, [&](const std::byte* block, std::size_t p, std::size_t i) {
    part_as_floats<f>(block, p, row, out + i * kBlock, 1);
  });
}

}  // namespace

bool is_packable(ggml_type type) {
  return with_packed_format(type, []<PackedFormat> {});
}

std::size_t Packed::bytes_for(const Matrix& m) {
  std::size_t tile = 0;
  with_packed_format(m.type, [&]<PackedFormat f> { tile = m.n_in / f.columns() * f.bytes(); });
  return (m.n_out + kTileRows - 1) / kTileRows * tile;
}

Packed::Packed(const Matrix& m, std::byte* memory, const RowsRead& read)
    : type_(m.type), n_in_(m.n_in), n_out_(m.n_out), tile_bytes_(bytes_for(m) / n_tiles()), memory_(memory) {
  assert(is_packable(m.type) && m.n_in % kBlock == 0);
  with_packed_format(type_, [&]<PackedFormat f> { pack<f>(m, memory, read); });
}

void Packed::unpack(std::size_t i, const Tile& to) const {
  assert(is_affine(type_));
  with_packed_format(type_, [&]<PackedFormat f> { unpack_bytes<f>(tile(i), n_in_, to); });
}

void Packed::unpack_f32(std::size_t i, float* to) const {
  with_packed_format(type_, [&]<PackedFormat f> { unpack_floats<f>(tile(i), n_in_, to); });
}

void Packed::read_row(std::size_t row, float* out) const {
  with_packed_format(type_,
                     [&]<PackedFormat f> { read_floats<f>(tile(row / kTileRows), n_in_, row % kTileRows, out); });
}

}  // namespace lacake::matmul
