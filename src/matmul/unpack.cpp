#include "matmul/unpack.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "matmul/block_types.h"
#include "matmul/packed_layout.h"

namespace lacake::matmul {
namespace {

// One block of 32, unpacked.
struct Block {
  std::uint8_t q[kBlock];
  float scale;
  float offset;
};

float f32(ggml_fp16_t x) { return ggml_fp16_to_fp32(x); }

void add_fifth_bits(const std::uint8_t* bits, std::uint8_t* q) {
  std::uint32_t all;
  std::memcpy(&all, bits, sizeof all);
  for (std::size_t i = 0; i < kBlock; ++i) q[i] |= (std::uint8_t)(((all >> i) & 1) << 4);
}

void unpack(const BlockQ4_0& b, Block* to) {
  unpack_nibbles(b.q, to->q);
  to->scale = f32(b.scale);
  to->offset = -8 * to->scale;
}

void unpack(const BlockQ4_1& b, Block* to) {
  unpack_nibbles(b.q, to->q);
  to->scale = f32(b.scale);
  to->offset = f32(b.least);
}

void unpack(const BlockQ5_0& b, Block* to) {
  unpack_nibbles(b.q, to->q);
  add_fifth_bits(b.fifth_bits, to->q);
  to->scale = f32(b.scale);
  to->offset = -16 * to->scale;
}

void unpack(const BlockQ5_1& b, Block* to) {
  unpack_nibbles(b.q, to->q);
  add_fifth_bits(b.fifth_bits, to->q);
  to->scale = f32(b.scale);
  to->offset = f32(b.least);
}

void unpack(const BlockQ8_0& b, Block* to) {
  for (std::size_t i = 0; i < kBlock; ++i) to->q[i] = (std::uint8_t)b.q[i] ^ 0x80;
  to->scale = f32(b.scale);
  to->offset = -128 * to->scale;
}

// Q4_K and Q5_K.
template <class Super>
void unpack_super(const Super& b, Block* to) {
  const float scale = f32(b.scale), least = f32(b.least);
  for (std::size_t i = 0; i < 8; ++i) {
    numbers_of(b, i, to[i].q);
    const SixBits six = six_bits(b.scales, i);
    to[i].scale = scale * (float)six.scale;
    to[i].offset = -least * (float)six.least;
  }
}
void unpack(const BlockQ4_K& b, Block* to) { unpack_super(b, to); }
void unpack(const BlockQ5_K& b, Block* to) { unpack_super(b, to); }

// Row i's block b goes to its place among the other rows'.
void place(const Block& from, std::size_t b, std::size_t i, const Tile& tile) {
  std::uint8_t* to = tile.values + (b * kBlock * kTileRows) + i * 4;
  for (std::size_t j = 0; j < kBlock; j += 4, to += 4 * kTileRows) std::memcpy(to, from.q + j, 4);
  tile.scales[b * kTileRows + i] = from.scale;
  tile.offsets[b * kTileRows + i] = from.offset;
}

template <class Stored>
void unpack_rows(const Matrix& m, std::size_t first, const Tile& tile) {
  constexpr std::size_t kBlocks = Stored::kWeights / kBlock;
  const std::size_t n_rows = std::min(kTileRows, m.n_out - first);
  Block blocks[kBlocks];
  for (std::size_t i = 0; i < kTileRows; ++i) {
    const auto* stored = (const Stored*)m.row(first + std::min(i, n_rows - 1));
    for (std::size_t s = 0; s < m.n_in / Stored::kWeights; ++s) {
      unpack(stored[s], blocks);
      for (std::size_t b = 0; b < kBlocks; ++b) place(blocks[b], s * kBlocks + b, i, tile);
    }
  }
}

}  // namespace

bool is_affine(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_0:
    case GGML_TYPE_Q4_1:
    case GGML_TYPE_Q5_0:
    case GGML_TYPE_Q5_1:
    case GGML_TYPE_Q8_0:
    case GGML_TYPE_Q4_K:
    case GGML_TYPE_Q5_K:
      return true;
    default:
      return false;
  }
}

int bits_of(ggml_type type) {
  int bits = 0;
  with_packed_format(type, [&]<PackedFormat f> { bits = f.bits; });
  return bits;
}

std::size_t tile_bytes(std::size_t n_in) { return n_in * kTileRows + 2 * (n_in / kBlock) * kTileRows * sizeof(float); }

Tile tile_at(std::byte* memory, std::size_t n_in) {
  auto* scales = (float*)(memory + n_in * kTileRows);
  return {.values = (std::uint8_t*)memory, .scales = scales, .offsets = scales + n_in / kBlock * kTileRows};
}

void unpack_tile(const Matrix& m, std::size_t first, const Tile& tile) {
  switch (m.type) {
    case GGML_TYPE_Q4_0:
      return unpack_rows<BlockQ4_0>(m, first, tile);
    case GGML_TYPE_Q4_1:
      return unpack_rows<BlockQ4_1>(m, first, tile);
    case GGML_TYPE_Q5_0:
      return unpack_rows<BlockQ5_0>(m, first, tile);
    case GGML_TYPE_Q5_1:
      return unpack_rows<BlockQ5_1>(m, first, tile);
    case GGML_TYPE_Q8_0:
      return unpack_rows<BlockQ8_0>(m, first, tile);
    case GGML_TYPE_Q4_K:
      return unpack_rows<BlockQ4_K>(m, first, tile);
    case GGML_TYPE_Q5_K:
      return unpack_rows<BlockQ5_K>(m, first, tile);
    default:
      assert(!"a type that is_affine() refuses");
  }
}

void unpack_tile_f32(const Matrix& m, std::size_t first, float* row, float* tile) {
  const std::size_t n_rows = std::min(kTileRows, m.n_out - first);
  const auto to_float = ggml_get_type_traits(m.type)->to_float;
  for (std::size_t i = 0; i < kTileRows; ++i) {
    const std::byte* stored = m.row(first + std::min(i, n_rows - 1));
    if (m.type == GGML_TYPE_F32) {
      std::memcpy(row, stored, m.n_in * sizeof(float));
    } else {
      to_float(stored, row, (std::int64_t)m.n_in);
    }
    for (std::size_t k = 0; k < m.n_in; ++k) tile[k * kTileRows + i] = row[k];
  }
}

}  // namespace lacake::matmul
