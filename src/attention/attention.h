#pragma once

// Attention of one KV head's group of query heads over cached rows, on the CPU. One thread a call; the caller divides
// the work. Results do not depend on how it is divided: a query row's arithmetic is the same whatever rows run beside
// it, and the cache is always cut into the same pieces.
//
// `prefill` and `decode` exist twice: `reference::` is plain scalar code that says what is meant, the other is fast and
// tested against it.
//
// Types of fewer than 8 bits are stored *mixed* (mix.h): a row is H times what was computed. Kernels multiply rows as
// they are, so q comes mixed where K is (keys with a rope_index aside: the kernel mixes those back before it rotates
// them), and what comes out is mixed where V is. The graph nodes do both. Keys have a form of their own beside
// (key_form.h). For whoever measures: the length of a value and the cosine of two values of a head are what they were;
// a value itself, its product with anything that is not mixed (W_O), and all of a key are not: read them with
// `read_row` and `read_key` (row.h).

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attention/key_form.h"
#include "ggml.h"

namespace lacake::attention {

// Cosines and sines by position, for keys that are stored unrotated.
//   table  [n_rot, n_positions] f32: a position's n_rot/2 cosines, then its n_rot/2 sines
// Dimensions from n_rot on are not rotated. `neox`: dimension i turns with i + n_rot/2, else 2i with 2i + 1.
struct Rope {
  const float* table = nullptr;
  int n_rot = 0;
  bool neox = false;

  // The dimensions that rotate with each other: pair i of n_rot / 2.
  struct Pair {
    std::size_t a, b;
  };
  constexpr Pair pair(std::size_t i) const {
    const auto half = (std::size_t)n_rot / 2;
    return neox ? Pair{i, i + half} : Pair{2 * i, 2 * i + 1};
  }
};

// Rows of K and V of one KV head, in slots. Row i of K is at k + i * k_stride bytes.
//   rope_index  [n] the position at which to rotate each key, or null: the keys are stored as they are to be used
//   token_rank  [n] each row's place in the order of tokens, oldest 0; null: rows lie in that order. Only asked under a
//               PrefillCall::window
struct Rows {
  const void* k = nullptr;
  const void* v = nullptr;
  std::size_t k_stride = 0;  // bytes
  std::size_t v_stride = 0;
  std::size_t n = 0;
  const std::int32_t* rope_index = nullptr;
  const std::int32_t* token_rank = nullptr;
};

struct Shape {
  int d_k = 0;    // head size of K and q
  int d_v = 0;    // head size of V and the output
  int group = 0;  // query heads that share the KV head
  ggml_type type_k = GGML_TYPE_F16;
  ggml_type type_v = GGML_TYPE_F16;
  float scale = 0;  // of q.k, before softmax
  Rope rope;        // for Rows with a rope_index
  // Above 0: a logit x becomes softcap * tanh(x / softcap), after the scale (Gemma 2).
  float softcap = 0;
  // [group] a logit for each head that takes its share of softmax and has no value (gpt-oss), or null. Applied by
  // `prefill` and by `combine`.
  const float* sinks = nullptr;
  // Of K's rows where their type has one: for mixed rows without a rope_index the caller brings queries in this form;
  // rows with one the kernel brings back. Of all KV heads in a layer's shape.
  KeyForm key_form = {};
};

// A layer's shape has the sinks of all its heads [n_head] and the form of all KV heads' keys; this one those of one.
inline Shape shape_of_head(Shape shape, std::size_t head_kv) {
  shape.key_form = shape.key_form.of_head(head_kv, (std::size_t)shape.d_k);
  if (shape.sinks) shape.sinks += head_kv * (std::size_t)shape.group;
  return shape;
}

// What is multiplied in. kInt16: 16-bit integers, summed exactly; softmax is f32 in both. Prefill has a scale for each
// query, key, and value; closer to f32 than f16 entries are. A matrix unit (cpu/target.h) gives the same bits, sooner.
// Decode multiplies rows of q8_0 and q4_0 so, where keys are not to be rotated and there is AVX-512 VBMI too, and all
// others in f32.
enum class Arithmetic { kF32, kInt16 };
// Whether the target in use can multiply 16-bit integers, and whether that is faster than f32.
bool has_int16();
bool has_fast_int16();

// --- prefill: many queries -------------------------------------------------------------------------------------------

// Queries `first .. first + n_q - 1` of a segment over `past` (all of it visible to each) and `fresh`, the segment's
// own rows: query j sees fresh[0 .. j] (j counts from the segment's start). With a window, it sees only the last
// `window` of these rows, its own included.
//   q    query j, head h at q + (j - first) * q_stride + h * d_k          (floats; already rotated)
//   out  the same with out_stride and d_v
// Recording (for policies): the probabilities of queries j >= record_from are written, masked entries as 0.
//   record  [past.n + fresh.n, n_rows, group] f32, row r = query record_from + r; null: nothing is recorded
struct PrefillCall {
  Shape shape;
  Rows past;
  Rows fresh;  // fresh.n >= first + n_q
  std::size_t first = 0;
  std::size_t n_q = 0;
  const float* q = nullptr;
  std::size_t q_stride = 0;  // floats from one query to the next
  float* out = nullptr;
  std::size_t out_stride = 0;
  float* record = nullptr;
  std::size_t record_from = 0;
  std::size_t record_rows = 0;
  // [group * n_q, 2] or null: each row's largest logit, to the base 2, and then each row's sum of 2^(logit - largest).
  float* softmax = nullptr;
  std::size_t window = 0;                    // 0: no limit
  Arithmetic arithmetic = Arithmetic::kF32;  // kInt16: REQUIRES has_int16()
};

// Bytes of scratch that `prefill` needs for any call with this shape and at most `n_q` queries. 64-byte aligned.
std::size_t prefill_scratch(const Shape&, std::size_t n_q);
void prefill(const PrefillCall&, std::span<std::byte> scratch);

// --- decode: one query -----------------------------------------------------------------------------------------------

// One query over rows [begin, end) of a lane. The partial result of head h is at partial + h * partial_floats(shape):
// the largest logit, the sum of exp(logit - largest), then d_v sums of exp(logit - largest) * v.
//   q        head h at q + h * d_k
//   weights  [weights_stride, group] exp(logit - largest) at its row's index, or null; `combine` makes probabilities of
//            them
// REQUIRES: begin < end <= begin + kDecodePiece
struct DecodeCall {
  Shape shape;
  Rows rows;
  std::size_t begin = 0;
  std::size_t end = 0;
  const float* q = nullptr;
  float* partial = nullptr;
  float* weights = nullptr;
  std::size_t weights_stride = 0;
  const void* next = nullptr;  // what the caller's next call reads first: brought near while this one ends; or null
  Arithmetic arithmetic = Arithmetic::kF32;  // kInt16: REQUIRES has_int16()
};

// The cache is cut here, always, so that results do not depend on the number of threads.
// Short enough that even a cache of 512 gives each of two threads the same share.
inline constexpr std::size_t kDecodePiece = 256;

inline std::size_t partial_floats(const Shape& s) { return 2 + (std::size_t)s.d_v; }
std::size_t decode_scratch(const Shape&);
void decode(const DecodeCall&, std::span<std::byte> scratch);

// What the pieces of a lane recorded (DecodeCall::weights).
struct Recorded {
  float* at = nullptr;  // [stride, group], null: nothing
  std::size_t stride = 0;
  std::size_t n = 0;                // rows of the lane
  std::size_t each = kDecodePiece;  // rows of a piece, the last one's aside
  bool group_mean = false;          // see combine
};

// Joins the pieces of one lane: partials [partial_floats, group, n_pieces] -> out [d_v, group], and turns recorded
// weights into probabilities in place; with `group_mean` head 0's into the mean of all heads' probabilities, and the
// others' stay as they are. REQUIRES: n_pieces > 0
void combine(const Shape&, const float* partials, std::size_t n_pieces, float* out, const Recorded& recorded = {});

// Writes one row: f32 -> type, mixed where the type is. Used for K and for V.
//   row  [d] f32
void store_row(const float* row, int d, ggml_type type, void* to);

// The same of a key in its form.
//   metric  [d, d] of the queries that it meets (round.h), or null: each number becomes the nearest
void store_key(const float* key, int d, ggml_type type, const KeyForm& form, const float* metric, void* to);

namespace reference {
void prefill(const PrefillCall&);
void decode(const DecodeCall&);
}  // namespace reference

}  // namespace lacake::attention
