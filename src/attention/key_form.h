#pragma once

// The form in which keys are stored whose numbers share a scale: a key k as k - center, and where rows are mixed
// (mix.h) as H (scale * (k - center)).
//
// center  What all keys of a head have in common moves all logits of a query alike, which softmax does not see. (It
//         would see it beside a sink or a cap. Keys that are stored unrotated get it back before they are rotated.)
//         A bias that is a hundred times what tells keys apart takes the steps of 8 bits too.
// scale   Queries are divided by it: what products have of a channel is shared out between K and Q. A channel that is
//         large in keys and small in queries would be given steps that it doesn't need, all others being rounded to the
//         same steps. With 8 bits there is nothing to gain.
//
// Both follow from a model's weights alone, so a file needs neither.

#include <algorithm>
#include <cstddef>

#include "attention/mix.h"

namespace lacake::attention {

// Types of keys that are stored in a form.
inline bool has_form(ggml_type type) { return ggml_is_quantized(type); }

struct KeyForm {
  const float* scale = nullptr;   // [d_k, heads], or null: ones
  const float* center = nullptr;  // [d_k, heads], or null: zeros

  KeyForm of_head(std::size_t head_kv, std::size_t d_k) const {
    return {scale ? scale + head_kv * d_k : nullptr, center ? center + head_kv * d_k : nullptr};
  }
  // Whether keys of this type are stored otherwise than they come.
  bool changes(ggml_type type) const { return is_mixed(type) || (has_form(type) && center); }
};

// Keys as they are stored in a type that has a form, but for rounding, and back; the queries that meet mixed ones. In
// place, d numbers each.
inline void to_form(const KeyForm& form, ggml_type type, float* key, std::size_t d) {
  for (std::size_t i = 0; form.center && i < d; ++i) key[i] -= form.center[i];
  if (!is_mixed(type)) return;
  for (std::size_t i = 0; form.scale && i < d; ++i) key[i] *= form.scale[i];
  mix(key, d);
}
// REQUIRES: the key has been mixed back
inline void restore_form(const KeyForm& form, ggml_type type, float* key, std::size_t d) {
  for (std::size_t i = 0; is_mixed(type) && form.scale && i < d; ++i) key[i] /= form.scale[i];
  for (std::size_t i = 0; form.center && i < d; ++i) key[i] += form.center[i];
}
inline void queries_to_form(const KeyForm& form, float* queries, std::size_t d, std::size_t n) {
  for (std::size_t i = 0; form.scale && i < n * d; ++i) queries[i] /= form.scale[i % d];
  mix(queries, d, n);
}

}  // namespace lacake::attention
