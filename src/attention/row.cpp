#include "attention/row.h"

#include <cstring>
#include <string>

#include "attention/mix.h"
#include "lacake/error.h"

namespace lacake::attention {

void rotate(const Rope& rope, std::size_t position, float* row) {
  const int half = rope.n_rot / 2;
  const float* cosines = rope.table + position * (std::size_t)rope.n_rot;
  const float* sines = cosines + half;
  for (int i = 0; i < half; ++i) {
    const Rope::Pair pair = rope.pair((std::size_t)i);
    float &a = row[pair.a], &b = row[pair.b];
    const float turned = a * cosines[i] - b * sines[i];
    b = a * sines[i] + b * cosines[i];
    a = turned;
  }
}

void load_row(const void* row, int d, ggml_type type, float* out) {
  if (type == GGML_TYPE_F32) {
    std::memcpy(out, row, (std::size_t)d * sizeof(float));
    return;
  }
  const auto to_float = ggml_get_type_traits(type)->to_float;
  if (!to_float) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "kv_type",
                 .expected = "one that converts to f32",
                 .found = ggml_type_name(type)});
  }
  to_float(row, out, d);
}

void read_row(const void* row, int d, ggml_type type, float* out) {
  convert_row(row, d, type, out);
  if (is_mixed(type)) mix(out, (std::size_t)d);
}

void read_key(const Shape& shape, const Rows& rows, std::size_t i, float* out) {
  read_row(static_cast<const std::byte*>(rows.k) + i * rows.k_stride, shape.d_k, shape.type_k, out);
  if (shape.key_form.changes(shape.type_k)) {
    restore_form(shape.key_form, shape.type_k, out, (std::size_t)shape.d_k);
  }
}

void load_key(const Shape& shape, const Rows& rows, std::size_t i, float* out) {
  const void* row = static_cast<const std::byte*>(rows.k) + i * rows.k_stride;
  if (!rows.rope_index) return load_row(row, shape.d_k, shape.type_k, out);
  load_plain_key(shape, rows, i, out);
}

void load_plain_key(const Shape& shape, const Rows& rows, std::size_t i, float* out) {
  read_key(shape, rows, i, out);
  if (rows.rope_index) rotate(shape.rope, (std::size_t)rows.rope_index[i], out);
}

void load_value(const Shape& shape, const Rows& rows, std::size_t i, float* out) {
  read_row(static_cast<const std::byte*>(rows.v) + i * rows.v_stride, shape.d_v, shape.type_v, out);
}

}  // namespace lacake::attention
