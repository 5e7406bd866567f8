#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "lacake/error.h"
#include "product/f32.h"
#include "product/int8.h"
#include "product/large_pages.h"
#include "product/method.h"
#include "targets/every_target.h"

namespace lacake::product {
namespace {

constexpr ggml_type kAffine[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
                                 GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K};

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

TEST(Packed, HoldsTheSameNumbersInTheSameBytes) {
  for (const ggml_type type : kAffine) {
    if (!is_packable(type)) continue;
    SCOPED_TRACE(ggml_type_name(type));
    const std::size_t n_in = 96;
    const Weights w(type, n_in, 64), odd(type, n_in, 33);
    const PackedCopy copy(w.matrix), odd_copy(odd.matrix);
    const Packed &packed = copy.packed, &padded = odd_copy.packed;
    EXPECT_EQ(packed.bytes(), w.bytes.size());
    EXPECT_EQ(padded.bytes(), w.bytes.size());
    TileMemory found(n_in), wanted(n_in);
    packed.unpack(1, found.tile);
    unpack_tile(w.matrix, kTileRows, wanted.tile);
    EXPECT_EQ(found.bytes, wanted.bytes);
    std::vector<float> row(n_in);
    padded.read_row(32, row.data());
    const std::vector<float> last = odd.row(32);
    for (std::size_t k = 0; k < n_in; ++k) EXPECT_NEAR(row[k], last[k], 1e-6f);
  }
}

TEST(Int8, FewColumnsAgreeWithTheReference) {
  if (!has_int8()) GTEST_SKIP() << "no AVX-512 VNNI here";
  for (const ggml_type type : kAffine) {
    if (!is_packable(type)) continue;
    SCOPED_TRACE(ggml_type_name(type));
    for (const std::size_t n_in : {32, 96, 576, 2048}) {
      const Weights w(type, n_in, 45);
      const PackedCopy copy(w.matrix);
      const Packed& packed = copy.packed;
      for (const std::size_t n : {1, 2, 3, 4, 5, 9}) {
        const Columns columns(n_in, n);
        std::vector<float> out(w.matrix.n_out * n);
        for (std::size_t i = 0; i < packed.n_tiles(); ++i) {
          multiply_packed(packed, i, columns.bytes.data(), n, out.data(), w.matrix.n_out);
        }
        expect_near(out, expected(w, columns, n));
      }
    }
  }
}

TEST(Int8, ManyColumnsAgreeWithTheReference) {
  if (!has_int8()) GTEST_SKIP() << "no AVX-512 VNNI here";
  for (const ggml_type type : kAffine) {
    SCOPED_TRACE(ggml_type_name(type));
    const std::size_t n_in = 512;
    const Weights w(type, n_in, 45);
    TileMemory memory(n_in);
    for (const std::size_t n : {1, 2, 3, 4, 5, 6, 7, 23}) {
      const Columns columns(n_in, n);
      std::vector<float> out(w.matrix.n_out * n);
      for (std::size_t first = 0; first < w.matrix.n_out; first += kTileRows) {
        unpack_tile(w.matrix, first, memory.tile);
        multiply_tile(memory.tile, n_in, std::min(kTileRows, w.matrix.n_out - first), columns.bytes.data(), n,
                      out.data() + first, w.matrix.n_out);
      }
      expect_near(out, expected(w, columns, n));
    }
  }
}

TEST(Int8, AColumnIsTheSameBitsWhateverStandsBesideIt) {
  if (!has_int8()) GTEST_SKIP() << "no AVX-512 VNNI here";
  const std::size_t n_in = 576, n = 11;
  const Weights w(GGML_TYPE_Q4_1, n_in, 32);
  const PackedCopy copy(w.matrix);
  const Packed& packed = copy.packed;
  const Columns columns(n_in, n);
  TileMemory memory(n_in);
  packed.unpack(0, memory.tile);
  std::vector<float> few(32 * n), many(32 * n), alone(32);
  multiply_packed(packed, 0, columns.bytes.data(), n, few.data(), 32);
  multiply_tile(memory.tile, n_in, 32, columns.bytes.data(), n, many.data(), 32);
  for (std::size_t c = 0; c < n; ++c) {
    const std::byte* column = columns.bytes.data() + c * column_bytes(n_in);
    multiply_packed(packed, 0, column, 1, alone.data(), 32);
    EXPECT_EQ(std::memcmp(alone.data(), few.data() + c * 32, 32 * sizeof(float)), 0) << c;
    multiply_tile(memory.tile, n_in, 32, column, 1, alone.data(), 32);
    EXPECT_EQ(std::memcmp(alone.data(), many.data() + c * 32, 32 * sizeof(float)), 0) << c;
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

TEST(Method, IsNamedOrRefusedWithWhatWasExpected) {
  for (const Method method : {Method::kGgml, Method::kF32}) EXPECT_EQ(parse_method(name(method), "--product"), method);
  EXPECT_EQ(parse_method("auto", "--product") == Method::kInt8, has_int8());
  try {
    parse_method("int4", "--product");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "--product: expected auto, ggml, f32 or int8, found \"int4\"");
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
}

}  // namespace
}  // namespace lacake::product
