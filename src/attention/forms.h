#pragma once

// Products of many rows of K or V with one matrix, of which only a number a row is wanted: lengths after a projection,
// and what queries of a known mean and covariance would make of keys. Entries stand in the lanes, so that an entry's
// number is the same bits whatever entries are measured beside it.

#include <cstddef>

namespace lacake::attention {

// Entries that are measured together, side by side: a block is [kFormEntries, d] f32.
inline constexpr std::size_t kFormEntries = 32;

// A row [d] -> its column of a block.
void put_in_block(const float* row, std::size_t d, std::size_t column, float* block);

// out[i] = x'Ax + b'x for each column x of a block; half of the products of a whole matrix, because A is symmetric.
//   halves  [d, d] 2 A below the diagonal, A on it, 0 above it: row r begins at r * d
//   linear  [d] b, or null: 0
//   out     [kFormEntries]
void quadratic_forms(const float* halves, const float* linear, std::size_t d, const float* block, float* out);
// Makes that of A [d, d] in place.
void take_halves(float* matrix, std::size_t d);

// sums[i] += the sum of |w.x| over rows w.
//   rows  [d, n_rows], `stride` floats from one to the next
//   sums  [kFormEntries]
void add_absolute_products(const float* rows, std::size_t n_rows, std::size_t stride, std::size_t d, const float* block,
                           float* sums);

// Adds the sum of (x - pivot)(x - pivot)' over rows x to `products`, in order.
//   rows      [d, n_rows], `stride` floats from one to the next
//   pivot     [d], or null: 0
//   products  [d, d], of which only what is not above the diagonal is meant
void add_outer_products(const float* rows, std::size_t n_rows, std::size_t stride, const float* pivot, std::size_t d,
                        float* products);

namespace reference {
void quadratic_forms(const float* halves, const float* linear, std::size_t d, const float* block, float* out);
void add_absolute_products(const float* rows, std::size_t n_rows, std::size_t stride, std::size_t d, const float* block,
                           float* sums);
void add_outer_products(const float* rows, std::size_t n_rows, std::size_t stride, const float* pivot, std::size_t d,
                        float* products);
}  // namespace reference

}  // namespace lacake::attention
