#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "lacake/error.h"
#include "matmul/bf16.h"
#include "matmul/f32.h"
#include "matmul/int8.h"
#include "matmul/large_pages.h"
#include "matmul/matmul_method.h"
#include "targets/every_target.h"

namespace lacake::matmul {
namespace {

constexpr ggml_type kAffine[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
                                 GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K};
constexpr ggml_type kPackable[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,   GGML_TYPE_Q8_0,
                                   GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS};

std::vector<float> numbers(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& value : x) value = normal(random) + 0.1f;
  return x;
}

// Made-up weights, quantised by ggml.
struct Weights {
  Weights(ggml_type type, std::size_t n_in, std::size_t n_out)
      : bytes(ggml_row_size(type, (std::int64_t)n_in) * n_out),
        matrix{.data = bytes.data(), .type = type, .n_in = n_in, .n_out = n_out} {
    const std::vector<float> x = numbers(n_in * n_out, 7);
    ggml_quantize_chunk(type, x.data(), bytes.data(), 0, (std::int64_t)n_out, (std::int64_t)n_in, nullptr);
  }
  std::vector<float> row(std::size_t i) const {
    std::vector<float> out(matrix.n_in);
    ggml_get_type_traits(matrix.type)->to_float(matrix.row(i), out.data(), (std::int64_t)matrix.n_in);
    return out;
  }
  std::vector<std::byte> bytes;
  Matrix matrix;
};

// A packed form with memory of its own.
struct PackedCopy {
  explicit PackedCopy(const Matrix& m) : memory(Packed::bytes_for(m)), packed(m, memory.take(Packed::bytes_for(m))) {}
  LargePages memory;
  Packed packed;
};

struct Columns {
  Columns(std::size_t n_in, std::size_t n) : x(numbers(n_in * n, 11)), bytes(column_bytes(n_in) * n) {
    for (std::size_t c = 0; c < n; ++c) {
      quantise_column(x.data() + c * n_in, n_in, bytes.data() + c * column_bytes(n_in));
    }
  }
  std::vector<float> x;
  std::vector<std::byte> bytes;
};

struct TileMemory {
  explicit TileMemory(std::size_t n_in) : bytes(tile_bytes(n_in)), tile(tile_at(bytes.data(), n_in)) {}
  std::vector<std::byte> bytes;
  Tile tile;
};

std::vector<float> expected(const Weights& w, const Columns& columns, std::size_t n) {
  std::vector<float> out(w.matrix.n_out * n);
  reference::multiply(w.matrix, 0, w.matrix.n_out, columns.bytes.data(), n, out.data(), w.matrix.n_out);
  return out;
}

void expect_near(const std::vector<float>& found, const std::vector<float>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  float largest = 0;
  for (const float x : wanted) largest = std::max(largest, std::abs(x));
  // Sums of up to 2048 products in f32 against sums in double.
  for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], wanted[i], 2e-6f * largest) << "at " << i;
}

TEST(Column, IsQuantisedAsTheReferenceSaysOnEveryTarget) {
  std::vector<float> x = numbers(160, 3);
  std::fill_n(x.begin() + 32, 32, 0.0f);  // a block of nothing has no scale to divide by
  std::vector<std::byte> wanted(column_bytes(x.size())), found(wanted.size());
  reference::quantise_column(x.data(), x.size(), wanted.data());
  on_every_target([&] {
    quantise_column(x.data(), x.size(), found.data());
    const Column a = column_at(found.data(), x.size(), 0), b = column_at(wanted.data(), x.size(), 0);
    EXPECT_EQ(std::memcmp(a.values, b.values, x.size()), 0);
    EXPECT_EQ(std::memcmp(a.scales, b.scales, x.size() / kBlock * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(a.sums, b.sums, x.size() / kBlock * sizeof(float)), 0);
  });
}

TEST(Column, IsNormedByItsRootMeanSquareOnEveryTarget) {
  for (const std::size_t n : {5, 64, 577}) {  // whole vectors and what is left of them
    const std::vector<float> x = numbers(n, 3), weight = numbers(n, 4);
    double squares = 0;
    for (const float v : x) squares += (double)v * v;
    const double scale = 1 / std::sqrt(squares / (double)n + 1e-5);
    on_every_target([&] {
      std::vector<float> to(n);
      norm_column(x.data(), weight.data(), 1e-5f, n, to.data());
      for (std::size_t i = 0; i < n; ++i) {
        EXPECT_NEAR(to[i], x[i] * scale * weight[i], 1e-6 * (1 + std::abs(to[i]))) << i << " of " << n;
      }
    });
  }
}

TEST(UnpackedTile, HoldsWhatGgmlMakesOfTheRows) {
  for (const ggml_type type : kAffine) {
    SCOPED_TRACE(ggml_type_name(type));
    const std::size_t n_in = 512;
    const Weights w(type, n_in, 70);
    TileMemory memory(n_in);
    std::vector<float> tile(n_in * kTileRows), row(n_in);
    for (const std::size_t first : {0, 32, 64}) {
      unpack_tile(w.matrix, first, memory.tile);
      on_every_target([&] {
        expand_tile(memory.tile, n_in, tile.data());
        for (std::size_t i = 0; i < kTileRows; ++i) {
          // Rows beyond the last repeat it.
          const std::vector<float> wanted = w.row(std::min(first + i, w.matrix.n_out - 1));
          for (std::size_t k = 0; k < n_in; ++k) ASSERT_NEAR(tile[k * kTileRows + i], wanted[k], 1e-6f);
        }
      });
      std::vector<float> plain(tile.size());
      unpack_tile_f32(w.matrix, first, row.data(), plain.data());
      for (std::size_t i = 0; i < tile.size(); ++i) ASSERT_NEAR(tile[i], plain[i], 1e-6f);
    }
  }
}

TEST(Packed, HoldsTheSameNumbersInAsManyBytes) {
  for (const ggml_type type : kPackable) {
    SCOPED_TRACE(ggml_type_name(type));
    const auto own_block = (std::size_t)ggml_blck_size(type);
    const std::size_t n_in = 3 * own_block;
    const Weights w(type, n_in, 64), odd(type, n_in, 33);
    const PackedCopy copy(w.matrix), odd_copy(odd.matrix);
    const Packed &packed = copy.packed, &padded = odd_copy.packed;
    // Six bits become eight, of IQ4_XS sixteen.
    const std::size_t more_a_block = type == GGML_TYPE_IQ4_XS                           ? 10
                                     : type == GGML_TYPE_Q4_K || type == GGML_TYPE_Q5_K ? 4
                                                                                        : 0;
    const std::size_t more = more_a_block * 64 * 3;
    EXPECT_EQ(packed.bytes(), w.bytes.size() + more);
    EXPECT_EQ(padded.bytes(), w.bytes.size() + more);
    if (is_affine(type)) {
      TileMemory found(n_in), wanted(n_in);
      packed.unpack(1, found.tile);
      unpack_tile(w.matrix, kTileRows, wanted.tile);
      EXPECT_EQ(found.bytes, wanted.bytes);
    }
    std::vector<float> tile(n_in * kTileRows);
    packed.unpack_f32(1, tile.data());
    for (std::size_t i = 0; i < kTileRows; ++i) {
      const std::vector<float> wanted = w.row(kTileRows + i);
      for (std::size_t k = 0; k < n_in; ++k) ASSERT_NEAR(tile[k * kTileRows + i], wanted[k], 1e-6f) << i << " " << k;
    }
    std::vector<float> row(n_in);
    padded.read_row(32, row.data());
    const std::vector<float> last = odd.row(32);
    for (std::size_t k = 0; k < n_in; ++k) EXPECT_NEAR(row[k], last[k], 1e-6f);
  }
}

TEST(Packed, SaysInPiecesWhichRowsItHasRead) {
  const std::size_t n_in = 2048, row_bytes = ggml_row_size(GGML_TYPE_Q8_0, (std::int64_t)n_in),
                    n_out = (9 << 20) / row_bytes;
  std::vector<std::byte> zeros(n_out * row_bytes);
  const Matrix matrix{.data = zeros.data(), .type = GGML_TYPE_Q8_0, .n_in = n_in, .n_out = n_out};
  LargePages memory(Packed::bytes_for(matrix));
  std::size_t next = 0, n_pieces = 0;
  const Packed packed(matrix, memory.take(Packed::bytes_for(matrix)), [&](std::size_t first, std::size_t last) {
    EXPECT_EQ(first, next);
    EXPECT_LE((last - first) * row_bytes, 4u << 20);
    next = last, ++n_pieces;
  });
  EXPECT_EQ(next, n_out);
  EXPECT_EQ(n_pieces, 3u);
}

// `test` on every target that can.
template <class Test>
void on_every_target_with_int8(const Test& test) {
  on_every_target([&] {
    if (has_int8()) test();
  });
}

TEST(Int8, FewColumnsAgreeWithTheReference) {
  if (!has_int8()) GTEST_SKIP() << "no AVX2 here";
  for (const ggml_type type : kPackable) {
    SCOPED_TRACE(ggml_type_name(type));
    for (const std::size_t n_in : {32, 96, 256, 576, 768, 2048}) {
      if (n_in % (std::size_t)ggml_blck_size(type) != 0) continue;
      const Weights w(type, n_in, 45);
      const PackedCopy copy(w.matrix);
      const Packed& packed = copy.packed;
      for (const std::size_t n : {1, 2, 3, 4, 5, 9}) {
        const Columns columns(n_in, n);
        const std::vector<float> wanted = expected(w, columns, n);
        on_every_target_with_int8([&] {
          std::vector<float> out(w.matrix.n_out * n);
          multiply_packed(packed, {0, packed.n_tiles()}, columns.bytes.data(), n, out.data(), w.matrix.n_out);
          expect_near(out, wanted);
        });
      }
    }
  }
}

TEST(Int8, ManyColumnsAgreeWithTheReference) {
  if (!has_int8()) GTEST_SKIP() << "no AVX2 here";
  for (const ggml_type type : kAffine) {
    SCOPED_TRACE(ggml_type_name(type));
    const std::size_t n_in = 512;
    const Weights w(type, n_in, 45);
    TileMemory memory(n_in);
    for (const std::size_t n : {1, 2, 3, 4, 5, 6, 7, 23}) {
      const Columns columns(n_in, n);
      const std::vector<float> wanted = expected(w, columns, n);
      on_every_target_with_int8([&] {
        std::vector<float> out(w.matrix.n_out * n);
        for (std::size_t first = 0; first < w.matrix.n_out; first += kTileRows) {
          unpack_tile(w.matrix, first, memory.tile);
          multiply_tile(memory.tile, bits_of(type), n_in, std::min(kTileRows, w.matrix.n_out - first),
                        columns.bytes.data(), n, out.data() + first, w.matrix.n_out);
        }
        expect_near(out, wanted);
      });
    }
  }
}

TEST(Int8, AColumnIsTheSameBitsWhateverStandsBesideIt) {
  if (!has_int8()) GTEST_SKIP() << "no AVX2 here";
  const std::size_t n_in = 768, n = 11;
  for (const ggml_type type : kPackable) {
    SCOPED_TRACE(ggml_type_name(type));
    const Weights w(type, n_in, 32);
    const PackedCopy copy(w.matrix);
    const Packed& packed = copy.packed;
    const Columns columns(n_in, n);
    TileMemory memory(n_in);
    if (is_affine(type)) packed.unpack(0, memory.tile);
    on_every_target_with_int8([&] {
      std::vector<float> few(32 * n), many(32 * n), alone(32);
      multiply_packed(packed, {0, 1}, columns.bytes.data(), n, few.data(), 32);
      if (is_affine(type))
        multiply_tile(memory.tile, bits_of(type), n_in, 32, columns.bytes.data(), n, many.data(), 32);
      for (std::size_t c = 0; c < n; ++c) {
        const std::byte* column = columns.bytes.data() + c * column_bytes(n_in);
        multiply_packed(packed, {0, 1}, column, 1, alone.data(), 32);
        EXPECT_EQ(std::memcmp(alone.data(), few.data() + c * 32, 32 * sizeof(float)), 0) << c;
        if (!is_affine(type)) continue;
        multiply_tile(memory.tile, bits_of(type), n_in, 32, column, 1, alone.data(), 32);
        EXPECT_EQ(std::memcmp(alone.data(), many.data() + c * 32, 32 * sizeof(float)), 0) << c;
      }
    });
  }
}

// The largest sums that bytes can have: where an instruction set sums in 16 bits, they must fit.
TEST(Int8, SumsOfTheLargestBytesDoNotOverflow) {
  if (!has_int8()) GTEST_SKIP() << "no AVX2 here";
  const std::size_t n_in = 256;
  for (const ggml_type type : kPackable) {
    SCOPED_TRACE(ggml_type_name(type));
    // Rows of one weight each, largest or least, so that all numbers of a block are its largest or its least.
    Weights w(type, n_in, 2);
    std::vector<float> x(2 * n_in, 1.0f);
    for (std::size_t k = 0; k < n_in; ++k) x[k] = k % 32 == 31 ? -1.0f : 1.0f, x[n_in + k] = -x[k];
    ggml_quantize_chunk(type, x.data(), w.bytes.data(), 0, 2, (std::int64_t)n_in, nullptr);
    const PackedCopy copy(w.matrix);
    Columns columns(n_in, 2);
    for (std::size_t k = 0; k < n_in; ++k) columns.x[k] = 1.0f, columns.x[n_in + k] = -1.0f;
    for (std::size_t c = 0; c < 2; ++c) {
      quantise_column(columns.x.data() + c * n_in, n_in, columns.bytes.data() + c * column_bytes(n_in));
    }
    const std::vector<float> wanted = expected(w, columns, 2);
    TileMemory memory(n_in);
    if (is_affine(type)) unpack_tile(w.matrix, 0, memory.tile);
    on_every_target_with_int8([&] {
      std::vector<float> out(4);
      multiply_packed(copy.packed, {0, 1}, columns.bytes.data(), 2, out.data(), 2);
      expect_near(out, wanted);
      if (!is_affine(type)) return;
      multiply_tile(memory.tile, bits_of(type), n_in, 2, columns.bytes.data(), 2, out.data(), 2);
      expect_near(out, wanted);
    });
  }
}

TEST(F32Tiles, AgreeWithPlainSumsAndDoNotDependOnNeighboursOnEveryTarget) {
  const std::size_t n_in = 100, n_rows = 21, n = 30;
  const std::vector<float> tile = numbers(n_in * kTileRows, 5), x = numbers(n_in * n, 6);
  on_every_target([&] {
    std::vector<float> out(n_rows * n), alone(n_rows);
    multiply_tile_f32(tile.data(), n_in, n_rows, x.data(), n_in, n, out.data(), n_rows);
    for (std::size_t c = 0; c < n; ++c) {
      for (std::size_t i = 0; i < n_rows; ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < n_in; ++k) sum += (double)tile[k * kTileRows + i] * x[c * n_in + k];
        ASSERT_NEAR(out[c * n_rows + i], sum, 1e-4) << i << " " << c;
      }
      multiply_tile_f32(tile.data(), n_in, n_rows, x.data() + c * n_in, n_in, 1, alone.data(), n_rows);
      ASSERT_EQ(std::memcmp(alone.data(), out.data() + c * n_rows, n_rows * sizeof(float)), 0) << c;
    }
  });
}

// The nearest bf16, ties to even.
float nearest_bf16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// w . x of what bf16.h says a number is split into, in double.
double split_product(const float* w, std::size_t w_stride, const float* x, std::size_t n, Pieces pieces) {
  double sum = 0;
  for (std::size_t k = 0; k < n; ++k) {
    const float w_hi = nearest_bf16(w[k * w_stride]), x_hi = nearest_bf16(x[k]);
    sum += (double)w_hi * x_hi;
    if (pieces == Pieces::kOne) continue;
    sum += (double)w_hi * nearest_bf16(x[k] - x_hi) + (double)nearest_bf16(w[k * w_stride] - w_hi) * x_hi;
  }
  return sum;
}

// Memory that begins with a cache line.
struct Lines {
  explicit Lines(std::size_t bytes) : all(bytes + 64) {}
  std::byte* data() { return (std::byte*)(((std::uintptr_t)all.data() + 63) / 64 * 64); }
  std::vector<std::byte> all;
};

struct SplitColumns {
  SplitColumns(const float* x, std::size_t n_in, std::size_t n, Pieces pieces)
      : memory((n + kColumnBlock - 1) / kColumnBlock * column_block_bytes(n_in, pieces)) {
    for (std::size_t c = 0; c < n; ++c) {
      std::byte* block = memory.data() + c / kColumnBlock * column_block_bytes(n_in, pieces);
      split_column(x + c * n_in, n_in, pieces, c % kColumnBlock, block);
    }
  }
  Lines memory;
};

TEST(Bf16Tiles, AreSumsOfTheSplitNumbersAndDoNotDependOnNeighbours) {
  if (!has_bf16()) GTEST_SKIP() << "no AMX here";
  for (const Pieces pieces : {Pieces::kOne, Pieces::kTwo}) {
    for (const std::size_t n_in : {1, 32, 100, 576, 900}) {
      for (const std::size_t n : {1, 15, 16, 17, 33, 70, 150}) {
        const std::size_t n_rows = n % 2 == 0 ? kTileRows : 21;
        const std::vector<float> tile = numbers(n_in * kTileRows, 5), x = numbers(n_in * n, 6);
        Lines split(split_tile_bytes(n_in, pieces));
        split_tile(tile.data(), n_in, pieces, split.data());
        SplitColumns columns(x.data(), n_in, n, pieces);
        std::vector<float> out(n_rows * n), alone(n_rows);
        multiply_tile_bf16(split.data(), n_in, n_rows, pieces, columns.memory.data(), n, out.data(), n_rows);
        for (std::size_t c = 0; c < n; ++c) {
          for (std::size_t i = 0; i < n_rows; ++i) {
            const double wanted = split_product(&tile[i], kTileRows, &x[c * n_in], n_in, pieces);
            ASSERT_NEAR(out[c * n_rows + i], wanted, 1e-6 * (double)n_in) << n_in << " " << i << " " << c;
          }
          SplitColumns own(x.data() + c * n_in, n_in, 1, pieces);
          multiply_tile_bf16(split.data(), n_in, n_rows, pieces, own.memory.data(), 1, alone.data(), n_rows);
          ASSERT_EQ(std::memcmp(alone.data(), out.data() + c * n_rows, n_rows * sizeof(float)), 0) << c;
        }
      }
    }
  }
}

TEST(Bf16Tiles, OfTwoPiecesAreNearlyThoseOfF32) {
  if (!has_bf16()) GTEST_SKIP() << "no AMX here";
  const std::size_t n_in = 1536, n = 16;
  const std::vector<float> tile = numbers(n_in * kTileRows, 5), x = numbers(n_in * n, 6);
  const auto error = [&](Pieces pieces) {
    Lines split(split_tile_bytes(n_in, pieces));
    split_tile(tile.data(), n_in, pieces, split.data());
    SplitColumns columns(x.data(), n_in, n, pieces);
    std::vector<float> out(kTileRows * n);
    multiply_tile_bf16(split.data(), n_in, kTileRows, pieces, columns.memory.data(), n, out.data(), kTileRows);
    double squares = 0, of = 0;
    for (std::size_t c = 0; c < n; ++c) {
      for (std::size_t i = 0; i < kTileRows; ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < n_in; ++k) sum += (double)tile[k * kTileRows + i] * x[c * n_in + k];
        squares += std::pow(out[c * kTileRows + i] - sum, 2);
        of += sum * sum;
      }
    }
    return std::sqrt(squares / of);
  };
  EXPECT_LT(error(Pieces::kTwo), 1e-5);
  EXPECT_LT(error(Pieces::kOne), 4e-3);
}

TEST(Bf16Tiles, AreTheSameFromBytesAsFromFloats) {
  if (!has_bf16()) GTEST_SKIP() << "no AMX here";
  for (const ggml_type type : kAffine) {
    SCOPED_TRACE(ggml_type_name(type));
    const std::size_t n_in = 512;
    const Weights w(type, n_in, 45);
    TileMemory memory(n_in);
    unpack_tile(w.matrix, kTileRows, memory.tile);
    std::vector<float> floats(n_in * kTileRows);
    expand_tile(memory.tile, n_in, floats.data());
    for (const Pieces pieces : {Pieces::kOne, Pieces::kTwo}) {
      const std::size_t bytes = split_tile_bytes(n_in, pieces);
      Lines from_bytes(bytes), from_floats(bytes);
      split_tile(memory.tile, n_in, pieces, from_bytes.data());
      split_tile(floats.data(), n_in, pieces, from_floats.data());
      EXPECT_EQ(std::memcmp(from_bytes.data(), from_floats.data(), bytes), 0);
    }
  }
}

TEST(Method, IsNamedOrRefusedWithWhatWasExpected) {
  for (const Method method : {Method::kGgml, Method::kF32}) EXPECT_EQ(parse_method(name(method)), method);
  const Method best = parse_method("auto");
  EXPECT_EQ(best == Method::kBf16, has_bf16());
  EXPECT_EQ(best == Method::kInt8, has_int8() && !has_bf16());
  if (!has_bf16()) {
    try {
      parse_method("bf16x3");
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(),
                   "product bf16x3: expected a CPU with AMX and bf16, found one without; f32 or ggml would do");
    }
  }
  try {
    parse_method("int4");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "product: expected auto, ggml, f32, int8, bf16 or bf16x3, found \"int4\"");
  }
}

TEST(Method, ChoosesAKernelByTypeShapeAndColumns) {
  EXPECT_EQ(kernel_for(Method::kGgml, GGML_TYPE_Q4_1, 64, false, false), Kernel::kGgml);
  EXPECT_EQ(kernel_for(Method::kInt8, GGML_TYPE_Q4_1, 64, true, true), Kernel::kInt8Packed);
  EXPECT_EQ(kernel_for(Method::kInt8, GGML_TYPE_Q4_1, 64, false, true), Kernel::kGgml);
  EXPECT_EQ(kernel_for(Method::kInt8, GGML_TYPE_Q4_K, 256, false, false), Kernel::kInt8Tiles);
  EXPECT_EQ(kernel_for(Method::kInt8, GGML_TYPE_Q6_K, 256, false, false), Kernel::kF32Tiles);
  EXPECT_EQ(kernel_for(Method::kF32, GGML_TYPE_Q4_1, 64, true, false), Kernel::kF32Tiles);
  EXPECT_EQ(kernel_for(Method::kInt8, GGML_TYPE_F32, 20, false, false), Kernel::kF32Tiles);
  EXPECT_EQ(kernel_for(Method::kBf16, GGML_TYPE_Q6_K, 256, false, false), Kernel::kBf16Tiles);
  EXPECT_EQ(kernel_for(Method::kBf16, GGML_TYPE_F32, 64, false, false), Kernel::kF32Tiles);
  EXPECT_EQ(pieces(Method::kBf16, GGML_TYPE_Q6_K), Pieces::kOne);
  EXPECT_EQ(pieces(Method::kBf16, GGML_TYPE_F16), Pieces::kTwo);
  EXPECT_EQ(pieces(Method::kBf16x3, GGML_TYPE_Q6_K), Pieces::kTwo);
  EXPECT_EQ(kernel_for(Method::kBf16x3, GGML_TYPE_F32, 20, false, false), Kernel::kBf16Tiles);
  EXPECT_EQ(kernel_for(Method::kBf16x3, GGML_TYPE_Q4_1, 64, true, true), Kernel::kInt8Packed);
}

}  // namespace
}  // namespace lacake::matmul
