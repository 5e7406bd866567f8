#pragma once

// One stored row of K or V, in plain scalar code: for the reference, for types without a fast path and for measures.

#include "attention/attention.h"

namespace lacake::attention {

// Any stored type -> f32. What is stored mixed (mix.h) comes out mixed.
//   out  [d] f32
void load_row(const void* row, int d, ggml_type type, float* out);

// What store_row was given, but for rounding.
void read_row(const void* row, int d, ggml_type type, float* out);

// Row `i` of K as it was projected, or as it was rotated where the cache keeps it so, but for rounding.
void read_key(const Shape&, const Rows& rows, std::size_t i, float* out);

// Row `i` of K as attention multiplies it: f32, rotated (and mixed back before) where `rows` says so.
//   out  [d_k] f32
void load_key(const Shape&, const Rows& rows, std::size_t i, float* out);

}  // namespace lacake::attention
