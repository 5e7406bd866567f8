#pragma once

// One stored row of K or V: in plain scalar code for the reference and for types without a fast path, with vectors for
// what measures read.

#include "attention/attention.h"

namespace lacake::attention {

// Any stored type -> f32. What is stored mixed (mix.h) comes out mixed.
//   out  [d] f32
void load_row(const void* row, int d, ggml_type type, float* out);

// The same bits, with the machine's vectors where the type has some.
void convert_row(const void* row, int d, ggml_type type, float* out);

// What store_row was given, but for rounding.
void read_row(const void* row, int d, ggml_type type, float* out);

// Row `i` of K as it was projected, or as it was rotated where the cache keeps it so, but for rounding.
void read_key(const Shape&, const Rows& rows, std::size_t i, float* out);

// Row `i` of K as attention multiplies it: f32, rotated (and brought back from its form before) where `rows` says so.
//   out  [d_k] f32
void load_key(const Shape&, const Rows& rows, std::size_t i, float* out);

// The same as what is not mixed is multiplied with it: queries to come, say.
void load_plain_key(const Shape&, const Rows& rows, std::size_t i, float* out);

// Turns a row [d] in place to `position`, a row of the rope's table.
void rotate(const Rope& rope, std::size_t position, float* row);

// Row `i` of V as the output projection takes it: f32, mixed back where it is stored mixed, because W_O v is another
// for a mixed v. All that measures values goes through here.
//   out  [d_v] f32
void load_value(const Shape&, const Rows& rows, std::size_t i, float* out);

}  // namespace lacake::attention
