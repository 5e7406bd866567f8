// Composed attention beside the reference on every device that ggml has here: always the CPU, in a buffer that is
// treated as a device's own memory, and a GPU where there is one.

#include "attention/composed.h"

#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <string>

#include "attention/mix.h"
#include "attention/row.h"
#include "attention/test_lane.h"
#include "ggml-cpp.h"
#include "model/device.h"

namespace lacake::attention {
namespace {

// f32 products of a GPU may be of 10-bit mantissas (TF32): a logit of 8 is then off by some 1e-3.
float tolerance(ggml_backend_dev_t device) {
  return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU ? 3e-5f : 1e-2f;
}

std::vector<ggml_backend_dev_t> devices() {
  std::vector<ggml_backend_dev_t> found = {cpu_device()};
  for (std::size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    const ggml_backend_dev_t device = ggml_backend_dev_get(i);
    const auto type = ggml_backend_dev_type(device);
    if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) found.push_back(device);
  }
  return found;
}

// A graph of one device, and a buffer of its memory for rows.
class DeviceGraph {
 public:
  explicit DeviceGraph(ggml_backend_dev_t device) : device_(device), backend_(ggml_backend_dev_init(device, nullptr)) {
    rows_.reset(ggml_backend_buft_alloc_buffer(ggml_backend_dev_buffer_type(device), kBytes));
    ggml_backend_buffer_clear(rows_.get(), 0);
    side_ = std::make_unique<DeviceSide>(rows_.get());
    constexpr std::size_t kNodes = 1024;
    ctx_.reset(ggml_init({.mem_size = 2 * kNodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(kNodes, false),
                          .mem_buffer = nullptr,
                          .no_alloc = true}));
    graph_ = ggml_new_graph_custom(ctx_.get(), kNodes, false);
  }

  ggml_context* context() { return ctx_.get(); }
  ggml_cgraph* graph() { return graph_; }
  DeviceSide* side() { return side_.get(); }

  // Room for so many bytes among the rows.
  std::byte* take(std::size_t n) {
    std::byte* at = (std::byte*)ggml_backend_buffer_get_base(rows_.get()) + taken_;
    taken_ += (n + 255) / 256 * 256;
    if (taken_ > kBytes) throw std::length_error("test: kBytes is too small");
    return at;
  }
  std::byte* put(const void* from, std::size_t n) {
    std::byte* at = take(n);
    if (n > 0) ggml_backend_tensor_set(bytes(at, n), from, 0, n);
    return at;
  }

  // [ne0, ne1, ne2] f32, whose values are set before the graph runs.
  ggml_tensor* input(std::vector<float> values, std::size_t ne0, std::size_t ne1, std::size_t ne2) {
    ggml_tensor* t =
        ggml_new_tensor_3d(context(), GGML_TYPE_F32, (std::int64_t)ne0, (std::int64_t)ne1, (std::int64_t)ne2);
    ggml_set_input(t);
    given_.push_back(std::move(values));
    side_->sends(t, given_.back().data());
    return t;
  }

  std::vector<float> run(ggml_tensor* result) {
    ggml_set_output(result);
    ggml_build_forward_expand(graph_, result);
    for (int i = 0; i < ggml_graph_n_nodes(graph_); ++i) {
      const ggml_tensor* node = ggml_graph_node(graph_, i);
      EXPECT_TRUE(ggml_backend_dev_supports_op(device_, node)) << ggml_op_desc(node);
    }
    if (testing::Test::HasFailure()) return {};
    const ggml_gallocr_ptr allocator(ggml_gallocr_new(ggml_backend_dev_buffer_type(device_)));
    EXPECT_TRUE(ggml_gallocr_alloc_graph(allocator.get(), graph_));
    expect_everything_on_the_device();
    side_->send();
    EXPECT_EQ(ggml_backend_graph_compute(backend_.get(), graph_), GGML_STATUS_SUCCESS);
    side_->receive();
    std::vector<float> values((std::size_t)ggml_nelements(result));
    ggml_backend_tensor_get(result, values.data(), 0, ggml_nbytes(result));
    return values;
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{4} << 20;

  // The CPU would not miss a buffer: it takes any address.
  void expect_everything_on_the_device() const {
    for (int i = 0; i < ggml_graph_n_nodes(graph_); ++i) {
      const ggml_tensor* node = ggml_graph_node(graph_, i);
      for (const ggml_tensor* src : node->src) {
        EXPECT_TRUE(!src || src->buffer) << "a source of " << ggml_op_desc(node);
      }
    }
  }

  ggml_tensor* bytes(std::byte* at, std::size_t n) {
    ggml_tensor* t = ggml_new_tensor_1d(context(), GGML_TYPE_I8, (std::int64_t)n);
    t->data = at;
    t->buffer = rows_.get();
    return t;
  }

  ggml_backend_dev_t device_;
  ggml_backend_ptr backend_;
  ggml_backend_buffer_ptr rows_;
  std::unique_ptr<DeviceSide> side_;
  ggml_context_ptr ctx_;
  ggml_cgraph* graph_;
  std::size_t taken_ = 0;
  std::vector<std::vector<float>> given_;
};

// The rows of a lane, which alternate in memory, on the device.
Rows on_device(DeviceGraph& g, const TestLane& lane, Rows rows) {
  if (rows.n == 0) return rows;
  const auto v_at = (std::size_t)((const std::byte*)rows.v - (const std::byte*)rows.k);
  const std::size_t bytes = (rows.n - 1) * rows.k_stride + v_at + ggml_row_size(lane.shape().type_v, lane.shape().d_v);
  rows.k = g.put(rows.k, bytes);
  rows.v = (const std::byte*)rows.k + v_at;
  return rows;
}

Rotate rotation_of(ggml_context* ctx, const Rope& rope) {
  return [ctx, rope](ggml_tensor* x, ggml_tensor* positions) {
    return ggml_rope_ext(ctx, x, positions, nullptr, rope.n_rot, rope.neox ? GGML_ROPE_TYPE_NEOX : 0, 0, 10000.0f, 1, 0,
                         1, 0, 0);
  };
}

// Kernels and their reference take rows and queries as mixed as they are; nodes take what they mix themselves.
void mix_back(const Shape& shape, bool rotates, std::vector<float>& q, std::vector<float>& k, std::vector<float>& v) {
  const auto d_k = (std::size_t)shape.d_k, d_v = (std::size_t)shape.d_v;
  if (is_mixed(shape.type_k)) mix(k.data(), d_k, k.size() / d_k);
  if (is_mixed(shape.type_k) && !rotates) mix(q.data(), d_k, q.size() / d_k);
  if (is_mixed(shape.type_v)) mix(v.data(), d_v, v.size() / d_v);
}

class Composed : public testing::TestWithParam<LaneCase> {
 protected:
  // use(device) returns the largest difference from the reference.
  template <class Use>
  void on_every_device(const Use& use) const {
    for (const ggml_backend_dev_t device : devices()) {
      SCOPED_TRACE(ggml_backend_dev_description(device));
      const float off = use(device);
      EXPECT_LT(off, tolerance(device));
      std::cout << ggml_backend_dev_name(device) << ": max abs " << off << "\n";
    }
  }
};

// Two KV heads, the second with fewer rows of the past; the segment in two chunks, the last rows recorded and all
// summed.
TEST_P(Composed, PrefillEqualsTheReferenceOnEveryDevice) {
  constexpr std::size_t kFresh = 21, kRecorded = 4;
  static constexpr std::pair<std::size_t, std::size_t> kChunks[] = {{0, 13}, {13, kFresh}};
  const TestLane lanes[] = {TestLane(GetParam().with_lengths(70, kFresh)),
                            TestLane(GetParam().with_lengths(70 - 5, kFresh))};
  const Shape& shape = lanes[0].shape();
  const auto group = (std::size_t)shape.group, d_k = (std::size_t)shape.d_k, d_v = (std::size_t)shape.d_v;
  const std::size_t n_entries = lanes[0].n_entries(), n_head = 2 * group;
  std::vector<float> sinks;
  for (const TestLane& lane : lanes) {
    if (shape.sinks) sinks.insert(sinks.end(), lane.shape().sinks, lane.shape().sinks + group);
  }

  on_every_device([&](ggml_backend_dev_t device) -> float {
    std::vector<float> record(n_entries * kRecorded * n_head, -1.0f), sums(n_entries * n_head, 0.0f), out;
    std::vector<std::byte> k_rows, v_rows;  // as the first chunk's graph left them
    for (const auto& [first, end] : kChunks) {
      DeviceGraph g(device);
      PrefillLayer layer;
      layer.shape = shape;
      layer.shape.sinks = sinks.empty() ? nullptr : sinks.data();
      layer.window = GetParam().window;
      const std::size_t k_row = ggml_row_size(shape.type_k, shape.d_k), v_row = ggml_row_size(shape.type_v, shape.d_v);
      k_rows.resize(2 * kFresh * k_row);
      v_rows.resize(2 * kFresh * v_row);
      std::vector<float> q, k, v, row(std::max(d_k, d_v));
      for (std::size_t j = first; j < end; ++j) {
        for (const TestLane& lane : lanes) {
          const auto stored = [&](const void* rows, std::size_t stride, std::size_t d, ggml_type type, auto& to) {
            load_row((const std::byte*)rows + j * stride, (int)d, type, row.data());
            to.insert(to.end(), row.begin(), row.begin() + (std::ptrdiff_t)d);
          };
          q.insert(q.end(), lane.query(j), lane.query(j) + group * d_k);
          stored(lane.fresh().k, lane.fresh().k_stride, d_k, shape.type_k, k);
          stored(lane.fresh().v, lane.fresh().v_stride, d_v, shape.type_v, v);
        }
      }
      mix_back(shape, lanes[0].fresh().rope_index, q, k, v);
      for (const TestLane& lane : lanes) layer.past.push_back(on_device(g, lane, lane.past()));
      // Rows of the chunk before.
      for (std::size_t head = 0; head < 2; ++head) {
        for (std::size_t j = 0; j < first; ++j) {
          const Rows& fresh = lanes[head].fresh();
          std::memcpy(k_rows.data() + (head * kFresh + j) * k_row, (const std::byte*)fresh.k + j * fresh.k_stride,
                      k_row);
          std::memcpy(v_rows.data() + (head * kFresh + j) * v_row, (const std::byte*)fresh.v + j * fresh.v_stride,
                      v_row);
        }
      }
      layer.k = g.put(k_rows.data(), k_rows.size());
      layer.v = g.put(v_rows.data(), v_rows.size());
      layer.capacity = kFresh;
      layer.fresh_index = lanes[0].fresh().rope_index;
      layer.first = first;
      layer.n_entries = n_entries;
      layer.record = record.data();
      layer.record_from = kFresh - kRecorded;
      layer.record_rows = kRecorded;
      layer.sums = sums.data();
      ggml_tensor* result =
          composed_prefill(g.context(), g.graph(), g.input(std::move(q), d_k, n_head, end - first),
                           g.input(std::move(k), d_k, 2, end - first), g.input(std::move(v), d_v, 2, end - first),
                           &layer, rotation_of(g.context(), shape.rope), g.side());
      const std::vector<float> part = g.run(result);
      if (HasFailure()) return INFINITY;
      out.insert(out.end(), part.begin(), part.end());
    }

    float off = 0;
    for (std::size_t head = 0; head < 2; ++head) {
      const TestLane& lane = lanes[head];
      const std::size_t n = lane.n_entries();
      std::vector<float> truth(kFresh * lane.out_stride()), probabilities(n * kFresh * group);
      PrefillCall call = lane.call(0, kFresh, truth.data());
      call.fresh.rope_index = lanes[0].fresh().rope_index;
      call.record = probabilities.data();
      call.record_rows = kFresh;
      reference::prefill(call);
      for (std::size_t j = 0; j < kFresh; ++j) {
        if (is_mixed(shape.type_v)) mix(truth.data() + j * lane.out_stride(), d_v, group);
        for (std::size_t i = 0; i < group * d_v; ++i) {
          off = std::max(off, std::abs(out[(j * 2 + head) * group * d_v + i] - truth[j * lane.out_stride() + i]));
        }
      }
      for (std::size_t h = 0; h < group; ++h) {
        for (std::size_t i = 0; i < n_entries; ++i) {
          double sum = 0;
          for (std::size_t j = 0; j < kFresh; ++j) {
            const float p = i < n ? probabilities[(h * kFresh + j) * n + i] : 0;
            sum += p;
            if (j < kFresh - kRecorded) continue;
            const std::size_t at = ((head * group + h) * kRecorded + j - (kFresh - kRecorded)) * n_entries + i;
            off = std::max(off, std::abs(record[at] - p));
          }
          off = std::max(off,
                         std::abs(sums[(head * group + h) * n_entries + i] - (float)sum) / 4);  // up to 21 are summed
        }
      }
    }
    return off;
  });
}

// One session of two KV heads. The new token's row is not there before.
TEST_P(Composed, DecodeEqualsTheReferenceOnEveryDevice) {
  const TestLane lanes[] = {TestLane(GetParam().with_lengths(130, 1)), TestLane(GetParam().with_lengths(33, 1))};
  const Shape& shape = lanes[0].shape();
  const auto group = (std::size_t)shape.group, d_k = (std::size_t)shape.d_k, d_v = (std::size_t)shape.d_v;
  const std::size_t n_most = lanes[0].past().n;
  std::vector<float> sinks;
  for (const TestLane& lane : lanes) {
    if (shape.sinks) sinks.insert(sinks.end(), lane.shape().sinks, lane.shape().sinks + group);
  }

  on_every_device([&](ggml_backend_dev_t device) -> float {
    DeviceGraph g(device);
    DecodeLayer layer;
    layer.shape = shape;
    layer.shape.sinks = sinks.empty() ? nullptr : sinks.data();
    layer.n_head_kv = 2;
    std::vector<float> q, k, v, row(std::max(d_k, d_v)), probabilities(2 * group * n_most, 0.0f);
    for (std::size_t head = 0; head < 2; ++head) {
      const TestLane& lane = lanes[head];
      const Rows& past = lane.past();
      const std::size_t last = past.n - 1;
      q.insert(q.end(), lane.query(0), lane.query(0) + group * d_k);
      load_row((const std::byte*)past.k + last * past.k_stride, shape.d_k, shape.type_k, row.data());
      k.insert(k.end(), row.begin(), row.begin() + shape.d_k);
      load_row((const std::byte*)past.v + last * past.v_stride, shape.d_v, shape.type_v, row.data());
      v.insert(v.end(), row.begin(), row.begin() + shape.d_v);

      Rows older = past;  // all but the new one
      older.n = last;
      older = on_device(g, lane, older);
      g.take(past.k_stride);
      DecodeLayer::Lane to{.rows = past, .type_k = shape.type_k, .type_v = shape.type_v};
      to.rows.k = older.k;
      to.rows.v = older.v;
      to.new_k = (std::byte*)older.k + last * past.k_stride;
      to.new_v = (std::byte*)older.v + last * past.v_stride;
      to.probabilities = probabilities.data() + head * group * n_most;
      to.probabilities_stride = n_most;
      to.group_mean = head == 1;  // one of each
      layer.lanes.push_back(to);
    }
    mix_back(shape, lanes[0].past().rope_index, q, k, v);
    ggml_tensor* keys = g.input(std::move(k), d_k, 2, 1);
    ggml_tensor* result =
        composed_decode(g.context(), g.graph(), g.input(std::move(q), d_k, 2 * group, 1), nullptr, keys,
                        g.input(std::move(v), d_v, 2, 1), &layer, rotation_of(g.context(), shape.rope), g.side());
    const std::vector<float> out = g.run(result);
    if (HasFailure()) return INFINITY;
    float off = 0;

    for (std::size_t head = 0; head < 2; ++head) {
      const TestLane& lane = lanes[head];
      const std::size_t n = lane.past().n;
      std::vector<float> partial(group * partial_floats(shape)), truth(group * d_v), seen(group * n);
      reference::decode({.shape = lane.shape(),
                         .rows = lane.past(),
                         .begin = 0,
                         .end = n,
                         .q = lane.query(0),
                         .partial = partial.data(),
                         .weights = seen.data(),
                         .weights_stride = n});
      combine(lane.shape(), partial.data(), 1, truth.data(),
              {.at = seen.data(), .stride = n, .n = n, .each = n, .group_mean = head == 1});
      if (is_mixed(shape.type_v)) mix(truth.data(), d_v, group);
      for (std::size_t i = 0; i < truth.size(); ++i) {
        off = std::max(off, std::abs(out[head * group * d_v + i] - truth[i]));
      }
      for (std::size_t h = 0; h < (head == 1 ? 1 : group); ++h) {
        for (std::size_t i = 0; i < n; ++i) {
          const float recorded = probabilities[(head * group + h) * n_most + i];
          off = std::max(off, std::abs(recorded - seen[h * n + i]));
        }
      }
    }
    return off;
  });
}

// Each type, rotation and extra somewhere.
INSTANTIATE_TEST_SUITE_P(
    , Composed,
    testing::Values(
        LaneCase{.d_k = 64, .d_v = 64, .group = 3, .type = GGML_TYPE_F16},
        LaneCase{.group = 1, .type = GGML_TYPE_F32, .turn = Turn::kNeox, .n_rot = 64},
        LaneCase{.type = GGML_TYPE_Q8_0, .turn = Turn::kNormal, .n_rot = 64},
        LaneCase{.d_k = 64, .d_v = 128, .group = 4, .type = GGML_TYPE_Q4_0},
        LaneCase{
            .d_k = 96, .d_v = 64, .group = 2, .type = GGML_TYPE_Q4_0, .turn = Turn::kNeox, .n_rot = 64, .sinks = true},
        LaneCase{.d_k = 80, .d_v = 80, .group = 2, .type = GGML_TYPE_BF16},
        LaneCase{.d_k = 128, .d_v = 128, .group = 7, .window = 20},
        LaneCase{.d_k = 256, .d_v = 256, .group = 2, .softcap = 5, .sinks = true}),
    testing::PrintToStringParamName());

}  // namespace
}  // namespace lacake::attention
