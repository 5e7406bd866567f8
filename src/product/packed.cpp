#include "product/packed.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "product/block_types.h"
#include "product/packed_layout.h"

namespace lacake::product {
namespace {

// Bit i of a block's fifth bits.
std::uint64_t fifth_bit(const std::uint8_t* bits, std::size_t i) { return bits[i / 8] >> (i % 8) & 1; }

// Block `b` of a row goes to lane `row` of its packed block.
template <PackedFormat f, class Block>
void place(const Block& b, std::size_t row, std::byte* to) {
  std::memcpy(to + row * 2, &b.scale, 2);
  if constexpr (f.has_least) std::memcpy(to + f.least() + row * 2, &b.least, 2);
  if constexpr (f.bits == 5) {
    auto* words = (std::uint64_t*)(to + f.fifth());
    for (std::size_t k = 0; k < kBlock; ++k) {
      words[k / 4 * 2 + row / 16] |= fifth_bit(b.fifth_bits, k) << (row % 16 * 4 + k % 4);
    }
  }
  std::byte* values = to + f.values() + row * 4;
  for (std::size_t i = 0; i < sizeof b.q; i += 4, values += 4 * kTileRows) {
    std::uint32_t four;
    std::memcpy(&four, b.q + i, 4);
    if constexpr (f.bits == 8) four ^= 0x80808080;
    std::memcpy(values, &four, 4);
  }
}

template <PackedFormat f>
struct Stored;
template <>
struct Stored<kPackedQ4_0> {
  using Block = BlockQ4_0;
};
template <>
struct Stored<kPackedQ4_1> {
  using Block = BlockQ4_1;
};
template <>
struct Stored<kPackedQ5_0> {
  using Block = BlockQ5_0;
};
template <>
struct Stored<kPackedQ5_1> {
  using Block = BlockQ5_1;
};
template <>
struct Stored<kPackedQ8_0> {
  using Block = BlockQ8_0;
};

template <PackedFormat f>
void pack(const Matrix& m, std::byte* to) {
  const std::size_t n_blocks = m.n_in / kBlock, tile_bytes = n_blocks * f.bytes();
  for (std::size_t i = 0; i < m.n_out; ++i) {
    const auto* row = (const typename Stored<f>::Block*)m.row(i);
    std::byte* tile = to + i / kTileRows * tile_bytes;
    if (i % kTileRows == 0) std::memset(tile, 0, tile_bytes);
    for (std::size_t b = 0; b < n_blocks; ++b) place<f>(row[b], i % kTileRows, tile + b * f.bytes());
  }
}

float f16_at(const std::byte* at, std::size_t i) {
  ggml_fp16_t x;
  std::memcpy(&x, at + i * 2, 2);
  return ggml_fp16_to_fp32(x);
}

// The 4 unsigned weights of columns 4g .. 4g + 3 of a row, one a byte.
template <PackedFormat f>
std::uint32_t four_weights(const std::byte* block, std::size_t g, std::size_t row) {
  std::uint32_t bytes;
  if constexpr (f.bits == 8) {
    std::memcpy(&bytes, block + f.values() + (g * kTileRows + row) * 4, 4);
    return bytes;
  }
  std::memcpy(&bytes, block + f.values() + (g % 4 * kTileRows + row) * 4, 4);
  bytes = bytes >> (g < 4 ? 0 : 4) & 0x0f0f0f0f;
  if constexpr (f.bits == 5) {
    std::uint64_t word;
    std::memcpy(&word, block + f.fifth() + (g * 2 + row / 16) * 8, 8);
    const auto bits = (std::uint32_t)(word >> (row % 16 * 4) & 15);
    bytes |= (bits & 1) << 4 | (bits & 2) << 11 | (bits & 4) << 18 | (bits & 8) << 25;
  }
  return bytes;
}

template <PackedFormat f>
float offset_of(const std::byte* block, std::size_t row) {
  return f.has_least ? f16_at(block + f.least(), row) : -(float)f.zero * f16_at(block, row);
}

template <PackedFormat f>
void unpack_blocks(const std::byte* packed, std::size_t n_blocks, const Tile& to) {
  for (std::size_t b = 0; b < n_blocks; ++b, packed += f.bytes()) {
    for (std::size_t row = 0; row < kTileRows; ++row) {
      to.scales[b * kTileRows + row] = f16_at(packed, row);
      to.offsets[b * kTileRows + row] = offset_of<f>(packed, row);
    }
    auto* values = (std::uint32_t*)(to.values + b * kBlock * kTileRows);
    for (std::size_t g = 0; g < kBlock / 4; ++g) {
      for (std::size_t row = 0; row < kTileRows; ++row) values[g * kTileRows + row] = four_weights<f>(packed, g, row);
    }
  }
}

}  // namespace

bool is_packable(ggml_type type) {
  return with_packed_format(type, []<PackedFormat> {});
}

std::size_t Packed::bytes_for(const Matrix& m) {
  std::size_t block = 0;
  with_packed_format(m.type, [&]<PackedFormat f> { block = f.bytes(); });
  return (m.n_out + kTileRows - 1) / kTileRows * (m.n_in / kBlock) * block;
}

Packed::Packed(const Matrix& m, std::byte* memory)
    : type_(m.type), n_in_(m.n_in), n_out_(m.n_out), tile_bytes_(bytes_for(m) / n_tiles()), memory_(memory) {
  assert(is_packable(m.type) && m.n_in % kBlock == 0);
  with_packed_format(type_, [&]<PackedFormat f> { pack<f>(m, memory); });
}

void Packed::unpack(std::size_t i, const Tile& to) const {
  with_packed_format(type_, [&]<PackedFormat f> { unpack_blocks<f>(tile(i), n_in_ / kBlock, to); });
}

void Packed::read_row(std::size_t row, float* out) const {
  with_packed_format(type_, [&]<PackedFormat f> {
    const std::byte* block = tile(row / kTileRows);
    const std::size_t lane = row % kTileRows;
    for (std::size_t k = 0; k < n_in_; k += kBlock, block += f.bytes()) {
      const float scale = f16_at(block, lane), offset = offset_of<f>(block, lane);
      for (std::size_t j = 0; j < kBlock; ++j) {
        const std::uint32_t four = four_weights<f>(block, j / 4, lane);
        out[k + j] = (float)(four >> (j % 4 * 8) & 255) * scale + offset;
      }
    }
  });
}

}  // namespace lacake::product
