// What attention means, in plain code: logits, softmax, weighted sum of V, in double. Slow and obvious.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention/attention.h"
#include "attention/measure.h"
#include "attention/row.h"

namespace lacake::attention::reference {
namespace {

// f32 copies of some rows, one after the other.
struct Loaded {
  std::vector<float> k;  // [d_k, n]
  std::vector<float> v;  // [d_v, n]

  void append(const Shape& shape, const Rows& rows, std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      k.resize(k.size() + shape.d_k);
      load_key(shape, rows, i, k.data() + k.size() - shape.d_k);
      v.resize(v.size() + shape.d_v);
      load_row(static_cast<const std::byte*>(rows.v) + i * rows.v_stride, shape.d_v, shape.type_v,
               v.data() + v.size() - shape.d_v);
    }
  }
};

struct Softmax {
  std::vector<double> logits;
  double largest = -std::numeric_limits<double>::infinity();
  double sum = 0;              // of exp(logit - largest)
  std::vector<double> values;  // [d_v] sums of exp(logit - largest) * v
};

// One query over those of the first n rows that it sees.
//   sink  a logit without a value, or null
template <class Sees>
Softmax attend(const Shape& shape, const Loaded& rows, std::size_t n, const float* q, const float* sink,
               const Sees& sees) {
  Softmax s;
  s.values.resize(shape.d_v);
  for (std::size_t i = 0; i < n; ++i) {
    double product = 0;
    for (int d = 0; d < shape.d_k; ++d) product += (double)q[d] * rows.k[i * shape.d_k + d];
    double logit = product * shape.scale;
    if (shape.softcap > 0) logit = shape.softcap * std::tanh(logit / shape.softcap);
    s.logits.push_back(sees(i) ? logit : -std::numeric_limits<double>::infinity());
    s.largest = std::max(s.largest, s.logits.back());
  }
  if (sink) {
    s.largest = std::max(s.largest, (double)*sink);
    s.sum = std::exp(*sink - s.largest);
  }
  for (std::size_t i = 0; i < n; ++i) {
    const double p = std::exp(s.logits[i] - s.largest);
    s.sum += p;
    for (int d = 0; d < shape.d_v; ++d) s.values[d] += p * rows.v[i * shape.d_v + d];
  }
  return s;
}

}  // namespace

void prefill(const PrefillCall& call) {
  const Shape& shape = call.shape;
  const std::size_t n_entries = call.past.n + call.fresh.n;
  Loaded rows;
  rows.append(shape, call.past, 0, call.past.n);
  rows.append(shape, call.fresh, 0, call.first + call.n_q);

  for (std::size_t j = call.first; j < call.first + call.n_q; ++j) {
    for (int h = 0; h < shape.group; ++h) {
      const float* q = call.q + (j - call.first) * call.q_stride + (std::size_t)h * shape.d_k;
      float* out = call.out + (j - call.first) * call.out_stride + (std::size_t)h * shape.d_v;
      const std::size_t n_visible = call.past.n + j + 1;
      const auto sees = [&](std::size_t i) {
        const std::size_t at = i < call.past.n && call.past.token_rank ? (std::size_t)call.past.token_rank[i] : i;
        return call.window == 0 || n_visible - at <= call.window;
      };
      const Softmax s = attend(shape, rows, n_visible, q, shape.sinks ? shape.sinks + h : nullptr, sees);
      for (int d = 0; d < shape.d_v; ++d) out[d] = (float)(s.values[d] / s.sum);

      if (!call.record || j < call.record_from || j - call.record_from >= call.record_rows) continue;
      float* record = call.record + ((std::size_t)h * call.record_rows + (j - call.record_from)) * n_entries;
      std::fill(record, record + n_entries, 0.0f);
      for (std::size_t i = 0; i < n_visible; ++i) record[i] = (float)(std::exp(s.logits[i] - s.largest) / s.sum);
    }
  }
}

void decode(const DecodeCall& call) {
  const Shape& shape = call.shape;
  Loaded rows;
  rows.append(shape, call.rows, call.begin, call.end);
  for (int h = 0; h < shape.group; ++h) {
    const std::size_t n = call.end - call.begin;
    const auto all = [](std::size_t) { return true; };
    const Softmax s = attend(shape, rows, n, call.q + (std::size_t)h * shape.d_k, nullptr, all);
    float* partial = call.partial + (std::size_t)h * partial_floats(shape);
    partial[0] = (float)s.largest;
    partial[1] = (float)s.sum;
    for (int d = 0; d < shape.d_v; ++d) partial[2 + d] = (float)s.values[d];
    if (!call.weights) continue;
    for (std::size_t i = 0; i < n; ++i) {
      const double weight = std::exp(s.logits[i] - s.largest);
      call.weights[(std::size_t)h * call.weights_stride + call.begin + i] = (float)weight;
    }
  }
}

void repeat_peaks(const PrefillCall& call, const Repeat& repeat, double* peaks) {
  const Shape& shape = call.shape;
  Loaded rows;
  for (const std::uint32_t slot : repeat.past_sinks) rows.append(shape, call.past, slot, slot + 1);
  rows.append(shape, call.fresh, 0, repeat.n_fresh_sinks);
  const std::size_t n_sinks = rows.k.size() / (std::size_t)shape.d_k, n_part = repeat.last - repeat.first;
  rows.append(shape, call.fresh, repeat.first, repeat.last);
  rows.append(shape, call.fresh, repeat.own, call.first + call.n_q);
  std::fill_n(peaks, n_part * (std::size_t)shape.group, 0.0);
  const auto all = [](std::size_t) { return true; };
  for (std::size_t j = call.first; j < call.first + call.n_q; ++j) {
    for (int h = 0; h < shape.group; ++h) {
      const float* q = call.q + (j - call.first) * call.q_stride + (std::size_t)h * shape.d_k;
      const std::size_t n = n_sinks + n_part + j - repeat.own + 1;
      const Softmax s = attend(shape, rows, n, q, shape.sinks ? shape.sinks + h : nullptr, all);
      for (std::size_t i = 0; i < n_part; ++i) {
        double& peak = peaks[(std::size_t)h * n_part + i];
        peak = std::max(peak, std::exp(s.logits[n_sinks + i] - s.largest) / s.sum);
      }
    }
  }
}

}  // namespace lacake::attention::reference
