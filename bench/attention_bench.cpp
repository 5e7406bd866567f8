// Attention as the engine runs it, against what the machine allows: decode against a plain read of the same bytes,
// prefill against the largest rate of multiply-adds. SmolLM2-135M's shape: 30 layers, 3 KV heads of 64, group 3.

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <stdexcept>
#include <vector>

#include "attention/attention_method.h"
#include "attention/decode_op.h"
#include "attention/measure.h"
#include "attention/prefill_op.h"
#include "cpu/target.h"
#include "lacake/machine.h"
#include "place/host_place.h"

namespace lacake {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kHeads = 3, kGroup = 3, kHeadSize = 64;
constexpr std::size_t kWeightBytes = 98'000'000 / 30;  // of one layer: read between layers, so that caches are cold

double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

// Sums 64-bit words as fast as memory gives them.
std::uint64_t plain_sum(const std::byte* data, std::size_t bytes) {
  const auto* words = (const std::uint64_t*)data;
  std::uint64_t sums[16] = {};
  for (std::size_t i = 0; i + 16 <= bytes / 8; i += 16) {
    for (std::size_t j = 0; j < 16; ++j) sums[j] += words[i + j];
  }
  for (std::size_t j = 1; j < 16; ++j) sums[0] += sums[j];
  return sums[0];
}

struct Span {
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
};

// A layer of the graph: weights are read, the clock starts, something runs, the clock stops.
struct Timed {
  std::vector<Span> weights;
  std::vector<Span> read;  // by the plain read instead of attention
  Clock::time_point started;
  double seconds = 0;
};

// Every thread sums its share of each span.
void sum_spans(const std::vector<Span>& spans, int ith, int nth) {
  for (const Span& s : spans) {
    const std::size_t each = (s.bytes / (std::size_t)nth + 127) / 128 * 128,
                      from = std::min(s.bytes, each * (std::size_t)ith);
    benchmark::DoNotOptimize(plain_sum(s.data + from, std::min(each, s.bytes - from)));
  }
}

void read_weights(ggml_tensor*, int ith, int nth, void* timed) { sum_spans(((Timed*)timed)->weights, ith, nth); }
void read_rows(ggml_tensor*, int ith, int nth, void* timed) { sum_spans(((Timed*)timed)->read, ith, nth); }
void start(ggml_tensor*, int, int, void* timed) { ((Timed*)timed)->started = Clock::now(); }
void stop(ggml_tensor*, int, int, void* timed) {
  auto* t = (Timed*)timed;
  t->seconds += seconds_since(t->started);
}

ggml_tensor* custom(Graph& graph, ggml_custom_op_t op, int n_tasks, Timed* timed) {
  ggml_tensor* t = ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0, op, n_tasks, timed);
  graph.output(t);
  return t;
}

// Bytes that look like f16 or f32 numbers of a cache: a period of a mebibyte and some, so that rows differ.
std::vector<std::byte> made_up_rows(std::size_t bytes, ggml_type type) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> numbers((1 << 18) + 32);
  for (float& x : numbers) x = normal(random);
  std::vector<std::byte> period(ggml_row_size(type, (std::int64_t)numbers.size()));
  attention::store_row(numbers.data(), (int)numbers.size(), type, period.data());
  std::vector<std::byte> rows(bytes);
  for (std::size_t at = 0; at < bytes; at += period.size()) {
    std::memcpy(rows.data() + at, period.data(), std::min(period.size(), bytes - at));
  }
  return rows;
}

// Cosines and sines of made-up positions.
std::vector<float> rope_angles(std::size_t n_positions) {
  std::vector<float> table(n_positions * kHeadSize);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = (float)((i * 37) % 101) / 101 - 0.5f;
  return table;
}

struct DecodeSetup {
  std::size_t n_rows;
  ggml_type type;
  bool rotate = false;
  bool recorded = false;
  bool group_mean = false;
};

// One token through all layers' attention, each layer's cache cold.
void decode(benchmark::State& state, const DecodeSetup& setup) {
  const int threads = (int)state.range(0);
  const std::size_t n = setup.n_rows, row = ggml_row_size(setup.type, kHeadSize);
  const std::size_t n_layers = std::clamp<std::size_t>((std::size_t{2} << 30) / (n * kHeads * 2 * row), 2, 30);
  const std::size_t n_lanes = n_layers * kHeads;
  std::vector<std::byte> rows = made_up_rows(2 * n_lanes * n * row, setup.type);
  std::byte *k = rows.data(), *v = k + n_lanes * n * row;
  const std::vector<std::byte> weights(kWeightBytes * n_layers, std::byte{1});
  const std::vector<float> angles = rope_angles(setup.rotate ? n : 0);
  std::vector<std::int32_t> index(n);
  for (std::size_t i = 0; i < n; ++i) index[i] = (std::int32_t)(n - 1 - i);

  HostPlace place(threads);
  attention::Scratch scratch;
  std::vector<float> partials, probabilities(n * kHeads * kGroup);
  std::deque<attention::DecodeLayer> layers(n_layers);
  std::deque<Timed> timed(n_layers);
  Graph attend(n_layers * 16), read(n_layers * 16);
  ggml_tensor* q = attend.input(GGML_TYPE_F32, kHeadSize, kHeads * kGroup, 1);
  ggml_tensor* new_row = attend.input(GGML_TYPE_F32, kHeadSize, kHeads, 1);
  for (std::size_t l = 0; l < n_layers; ++l) {
    timed[l].weights = {{weights.data() + l * kWeightBytes, kWeightBytes}};
    attention::DecodeLayer& layer = layers[l];
    layer.shape = {.d_k = kHeadSize,
                   .d_v = kHeadSize,
                   .group = kGroup,
                   .type_k = setup.type,
                   .type_v = setup.type,
                   .scale = 0.125f,
                   .rope = {.table = angles.data(), .n_rot = kHeadSize}};
    layer.n_head_kv = kHeads;
    layer.n_rotated = setup.rotate ? 0 : 1;
    layer.partials = &partials;
    layer.scratch = &scratch;
    for (std::size_t h = 0; h < kHeads; ++h) {
      std::byte* lane_k = k + (l * kHeads + h) * n * row;
      std::byte* lane_v = v + (l * kHeads + h) * n * row;
      layer.lanes.push_back({.rows = {.k = lane_k,
                                      .v = lane_v,
                                      .k_stride = row,
                                      .v_stride = row,
                                      .n = n,
                                      .rope_index = setup.rotate ? index.data() : nullptr},
                             .type_k = setup.type,
                             .type_v = setup.type,
                             .arithmetic = attention::arithmetic_of(attention::Method::kAuto, setup.type, setup.type),
                             .new_k = lane_k + (n - 1) * row,
                             .new_v = lane_v + (n - 1) * row,
                             .probabilities = setup.recorded ? probabilities.data() + h * kGroup * n : nullptr,
                             .probabilities_stride = n,
                             .group_mean = setup.group_mean});
      timed[l].read.push_back({lane_k, n * row});
      timed[l].read.push_back({lane_v, n * row});
    }
    const std::size_t needed = layer.cut();
    if (partials.size() < needed) partials.resize(needed);
    scratch.reserve(threads, attention::decode_scratch_bytes(layer.shape));

    custom(attend, read_weights, GGML_N_TASKS_MAX, &timed[l]);
    custom(attend, start, 1, &timed[l]);
    ggml_tensor* rotated = setup.rotate ? nullptr : new_row;
    attend.output(
        attention::decode_node(attend.context(), q, rotated, setup.rotate ? new_row : nullptr, new_row, &layer));
    custom(attend, stop, 1, &timed[l]);
    custom(read, read_weights, GGML_N_TASKS_MAX, &timed[l]);
    custom(read, start, 1, &timed[l]);
    custom(read, read_rows, GGML_N_TASKS_MAX, &timed[l]);
    custom(read, stop, 1, &timed[l]);
  }
  place.allocate(read);  // writes nothing: the other graph may have its memory
  place.allocate(attend);
  for (ggml_tensor* t : {q, new_row}) {
    std::vector<float> ones((std::size_t)ggml_nelements(t), 0.5f);
    ggml_backend_tensor_set(t, ones.data(), 0, ggml_nbytes(t));
  }

  const auto take = [&](Graph& graph) {
    for (std::size_t l = 0; l < n_layers; ++l) {
      timed[l].seconds = 0;
      layers[l].cut();
    }
    place.run(graph);
    double seconds = 0;
    for (const Timed& t : timed) seconds += t.seconds;
    return seconds;
  };
  take(attend);
  // Of each the fastest run: what disturbs one may not disturb the other.
  double attended = 1e9, was_read = 1e9;
  for (auto _ : state) {
    const double seconds = take(attend);
    state.SetIterationTime(seconds);
    attended = std::min(attended, seconds);
    was_read = std::min(was_read, take(read));
  }
  const double bytes = (double)rows.size();
  state.counters["GB/s"] = bytes / attended / 1e9;
  state.counters["read_GB/s"] = bytes / was_read / 1e9;
  state.counters["share_%"] = 100 * was_read / attended;
  state.counters["us/layer"] = attended * 1e6 / (double)n_layers;
}

struct PrefillSetup {
  std::size_t n_keys;
  ggml_type type = GGML_TYPE_F16;
  bool rotate = false;
  std::size_t record_rows = 0;
  bool sums = false;
  attention::Arithmetic arithmetic = attention::Arithmetic::kF32;
};

// The last 512 tokens of a prompt through one layer's attention.
void prefill(benchmark::State& state, const PrefillSetup& setup) {
  const int threads = (int)state.range(0);
  const std::size_t n = setup.n_keys, n_q = std::min<std::size_t>(512, n), row = ggml_row_size(setup.type, kHeadSize);
  std::vector<std::byte> k = made_up_rows(kHeads * n * row, setup.type), v = k;
  const std::vector<float> angles = rope_angles(setup.rotate ? n : 0);
  std::vector<std::int32_t> index(n);
  for (std::size_t i = 0; i < n; ++i) index[i] = (std::int32_t)i;
  std::vector<float> record(n * setup.record_rows * kHeads * kGroup), sums(setup.sums ? n * kHeads * kGroup : 0);

  HostPlace place(threads);
  attention::Scratch scratch;
  attention::PrefillLayer layer;
  layer.shape = {.d_k = kHeadSize,
                 .d_v = kHeadSize,
                 .group = kGroup,
                 .type_k = setup.type,
                 .type_v = setup.type,
                 .scale = 0.125f,
                 .rope = {.table = angles.data(), .n_rot = kHeadSize}};
  layer.arithmetic = setup.arithmetic;
  layer.past.resize(kHeads);
  layer.k = k.data();
  layer.v = v.data();
  layer.capacity = n;
  layer.fresh_index = setup.rotate ? index.data() : nullptr;
  layer.first = n - n_q;
  layer.n_entries = n;
  if (setup.record_rows > 0) {
    layer.record = record.data();
    layer.record_from = n - setup.record_rows;
    layer.record_rows = setup.record_rows;
  }
  layer.sums = setup.sums ? sums.data() : nullptr;
  layer.scratch = &scratch;
  scratch.reserve(threads, attention::prefill_scratch_bytes(layer.shape));

  Graph graph(16);
  Timed timed;
  ggml_tensor* q = graph.input(GGML_TYPE_F32, kHeadSize, kHeads * kGroup, (std::int64_t)n_q);
  ggml_tensor* fresh = graph.input(GGML_TYPE_F32, kHeadSize, kHeads, (std::int64_t)n_q);
  custom(graph, start, 1, &timed);
  graph.output(attention::prefill_node(graph.context(), q, fresh, fresh, &layer));
  custom(graph, stop, 1, &timed);
  place.allocate(graph);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (ggml_tensor* t : {q, fresh}) {
    std::vector<float> numbers((std::size_t)ggml_nelements(t));
    for (float& x : numbers) x = normal(random);
    ggml_backend_tensor_set(t, numbers.data(), 0, ggml_nbytes(t));
  }
  double seconds = 1e9;
  for (auto _ : state) {
    timed.seconds = 0;
    layer.next = layer.next_sums = 0;
    if (setup.sums) std::fill(sums.begin(), sums.end(), 0.0f);
    place.run(graph);
    state.SetIterationTime(timed.seconds);
    seconds = std::min(seconds, timed.seconds);
  }
  const double pairs = (double)(n - n_q) * (double)n_q + (double)n_q * (double)(n_q + 1) / 2;
  const double flops = pairs * 4 * kHeadSize * kHeads * kGroup;
  state.counters["GFLOP/s"] = flops / seconds / 1e9;
}

// The statistics that CAKE asks for of one head's window.
void window_statistics(benchmark::State& state, std::size_t n_entries, std::size_t n_rows) {
  std::vector<float> a(n_entries * n_rows), mean(n_entries), variance(n_entries);
  std::mt19937 random(3);
  for (float& x : a) x = (float)(random() >> 8) * 0x1p-24f / (float)n_entries;
  for (auto _ : state) {
    benchmark::DoNotOptimize(attention::window_statistics(a.data(), n_entries, n_rows, mean.data(), variance.data()));
  }
  state.counters["numbers"] =
      benchmark::Counter((double)a.size() * (double)state.iterations(), benchmark::Counter::kIsRate);
}

void add_benchmarks() {
  const auto add = [](const std::string& name, auto run, auto setup) {
    benchmark::RegisterBenchmark(name.c_str(), [run, setup](benchmark::State& s) { run(s, setup); })
        ->ArgName("threads")
        ->Arg(1)
        ->Arg(2)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_F32, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
    for (const std::size_t n : {512, 2048, 8192, 131072}) {
      const std::string name = fmt::format("decode/{}/{}", ggml_type_name(type), n);
      add(name, decode, DecodeSetup{.n_rows = n, .type = type});
      add(name + "/rotate", decode, DecodeSetup{.n_rows = n, .type = type, .rotate = true});
      add(name + "/recorded", decode, DecodeSetup{.n_rows = n, .type = type, .recorded = true});
      add(name + "/group_mean", decode, DecodeSetup{.n_rows = n, .type = type, .recorded = true, .group_mean = true});
    }
  }
  for (const std::size_t n : {512, 8192}) {
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_F32, GGML_TYPE_Q8_0}) {
      for (const auto arithmetic : {attention::Arithmetic::kF32, attention::Arithmetic::kInt16}) {
        const bool int16 = arithmetic == attention::Arithmetic::kInt16;
        if (int16 && !attention::has_int16()) continue;
        const std::string name = fmt::format("prefill/{}/{}{}", ggml_type_name(type), n, int16 ? "/int16" : "");
        const PrefillSetup plain{.n_keys = n, .type = type, .arithmetic = arithmetic};
        const auto with = [&plain](const auto& change) {
          PrefillSetup setup = plain;
          change(setup);
          return setup;
        };
        add(name, prefill, plain);
        add(name + "/rotate", prefill, with([](PrefillSetup& s) { s.rotate = true; }));
        add(name + "/window", prefill, with([](PrefillSetup& s) { s.record_rows = 32; }));
        add(name + "/sums", prefill, with([](PrefillSetup& s) { s.sums = true; }));
      }
    }
    benchmark::RegisterBenchmark(fmt::format("window_statistics/{}", n).c_str(), [n](benchmark::State& s) {
      window_statistics(s, n, 32);
    })->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace
}  // namespace lacake

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  if (const char* name = std::getenv("LACAKE_TARGET"); name && *name) lacake::use_instruction_set(name);
  benchmark::AddCustomContext("attention_target", lacake::cpu::target_name());
  lacake::add_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
}
