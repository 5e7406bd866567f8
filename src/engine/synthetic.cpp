#include "engine/synthetic.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include "attention/row.h"
#include "engine/deferred_edits.h"
#include "engine/entry_measures.h"
#include "engine/prefill_pass.h"
#include "engine/session_state.h"

namespace lacake {
namespace {

constexpr float kOwn = 0.9f;
const float kOther = std::sqrt(1 - kOwn * kOwn);

// A number by chance for each key: no state, so rows may be made in any order and on any thread.
std::uint64_t hashed(std::uint64_t key) {
  key += 0x9E3779B97F4A7C15ull;
  key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9ull;
  key = (key ^ (key >> 27)) * 0x94D049BB133111EBull;
  return key ^ (key >> 31);
}

// exp of a bell curve of this deviation, to be drawn by ten bits.
class HeavyTail {
 public:
  explicit HeavyTail(float deviation) {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const std::uint64_t bits = hashed(i);
      float bell = 0;
      for (int j = 0; j < 4; ++j) bell += (float)((bits >> (16 * j)) & 0xFFFF) / 65536.0f - 0.5f;
      values_[i] = std::exp(deviation * 1.7320508f * bell);
    }
  }
  float operator()(std::uint64_t bits) const { return values_[bits % values_.size()]; }

 private:
  std::array<float, 1024> values_;
};

class SyntheticSegment {
 public:
  SyntheticSegment(EngineState& engine, SessionState& session, PrefillMemory& memory, const EntrySample& sample,
                   std::size_t n_new)
      : engine_(engine),
        memory_(memory),
        session_(session),
        sample_(sample),
        h_(engine.model.hyperparameters),
        shape_(session.cache().arena().shape()),
        n_new_(n_new),
        n_past_(session.n_past()) {
    if (!session.cache_index()) engine.rope_table.extend(engine.place, n_past_ + n_new);
  }

  void layer(int l) {
    Cache& cache = session_.cache();
    Policy& policy = session_.policy();
    const std::size_t n_entries = cache.length(l) + n_new_, n_head = (std::size_t)h_.n_head;
    const bool slides = engine_.layers.slides(l);
    const int policy_layer = slides ? 0 : engine_.layers.policy_layer(l);
    const Measures asked = slides ? Measures{} : policy.measures(Phase::kPrefill, policy_layer, n_entries, n_new_);
    const std::size_t rows = std::min((std::size_t)asked.window, n_new_);
    const std::size_t n_rows = rows + (asked.accumulated ? 1 : 0);
    EntryMeasures entries(h_, {&asked, 1}, n_entries, cache.length(l) > 0, engine_.place.threads());
    memory_.workspace.reserve({.k = n_new_ * (std::size_t)h_.n_head_kv * shape_.k_row(),
                               .v = n_new_ * (std::size_t)h_.n_head_kv * shape_.v_row(),
                               .record = (n_entries * n_rows * n_head + entries.floats()) * sizeof(float)});
    learned_.resize(asked.learned ? n_new_ * (std::size_t)h_.n_head_kv : 0);
    make_entries(l);
    float* record = (float*)memory_.workspace.record.data();
    float* sums = asked.accumulated ? record + n_entries * rows * n_head : nullptr;
    engine_.workers.each(n_head, [&](std::size_t head, int) {
      const std::vector<std::int64_t> positions = positions_by_slot(l, (int)(head / (std::size_t)h_.group()));
      for (std::size_t r = 0; r < rows; ++r) {
        float* row = record + (head * rows + r) * n_entries;
        const std::size_t seen = positions.size() - (rows - 1 - r);
        attention_row(l, head, r, {positions.data(), seen}, row);
        std::fill(row + seen, row + n_entries, 0.0f);
      }
      if (sums) accumulated_row(l, head, positions, sums + head * n_entries, n_entries);
    });

    const SegmentRows fresh{.k = memory_.workspace.k.data(),
                            .v = memory_.workspace.v.data(),
                            .capacity = n_new_,
                            .n = n_new_,
                            .first_position = (std::int64_t)n_past_};
    const Recording recording{
        .probabilities = rows > 0 ? record : nullptr, .n_rows = rows, .sums = sums, .stride = n_entries};
    entries.place(record + n_entries * n_rows * n_head);
    if (entries.wants_queries()) make_queries(l, entries);
    measure(l, entries, fresh, recording);
    const LayerVisit visit{.phase = Phase::kPrefill,
                           .layer = l,
                           .policy_layer = policy_layer,
                           .n_head = h_.n_head,
                           .n_new = n_new_,
                           .n_past = (std::int64_t)n_past_,
                           .recording = recording,
                           .learned = learned_,
                           .fresh = fresh,
                           .entries = &entries,
                           .key_form = session_.key_form(l)};
    DeferredEdits edits(cache, engine_.layers, l, n_new_);
    if (slides) {
      edits.keep_newest(n_entries, session_.plan().sliding_entries);
    } else {
      policy.update(session_.observer().observe(asked, cache, visit), edits);
    }
    for (std::size_t i = 0; i < edits.n_elsewhere(); ++i) edits.apply_elsewhere(cache, i);
    edits.apply_own(cache, fresh);
  }

 private:
  // Queries as keys are: of the same mean and covariance.
  void make_queries(int l, EntryMeasures& entries) const {
    const auto d = (std::size_t)h_.d_k, n_head = (std::size_t)h_.n_head;
    std::vector<float> queries, v((std::size_t)h_.d_v);
    for (std::size_t from = 0; from < n_new_; from += kComputeChunk) {
      const std::size_t n = std::min(kComputeChunk, n_new_ - from);
      queries.resize(n * n_head * d);
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t head = 0; head < n_head; ++head) {
          float* q = queries.data() + (i * n_head + head) * d;
          sample_.entry(l, (int)(head / (std::size_t)h_.group()), n_past_ + from + i, q, v.data());
        }
      }
      const EntryMeasures::Queries chunk{.q = queries.data(),
                                         .head_stride = d,
                                         .token_stride = n_head * d,
                                         .n = n,
                                         .first_token = (std::int64_t)(n_past_ + from)};
      engine_.workers.each(n_head, [&](std::size_t head, int) { entries.add_queries(chunk, head); });
      entries.added(chunk);
    }
  }

  void measure(int l, EntryMeasures& entries, const SegmentRows& fresh, const Recording& recording) {
    attention::Shape shape = engine_.attention_shape(l, shape_);
    shape.key_form = session_.key_form(l);
    engine_.scratch.reserve(engine_.place.threads(), attention::prefill_scratch_bytes(shape));
    entries.measure(
        {.layer = l, .cache = &session_.cache(), .shape = shape, .fresh = fresh, .recording = recording},
        [](int) { return attention::Rope{}; }, [&] { return output_projection(engine_.model, l); },
        engine_.output_grams, engine_.workers, engine_.scratch);
  }

  void make_entries(int l) {
    constexpr std::size_t kAtOnce = 256;
    const attention::KeyForm form = session_.key_form(l);
    const std::size_t blocks = (n_new_ + kAtOnce - 1) / kAtOnce, heads = (std::size_t)h_.n_head_kv;
    engine_.workers.each(blocks * heads, [&](std::size_t part, int) {
      const std::size_t head = part / blocks, from = part % blocks * kAtOnce;
      std::vector<float> k((std::size_t)h_.d_k), v((std::size_t)h_.d_v);
      for (std::size_t i = from; i < std::min(from + kAtOnce, n_new_); ++i) {
        sample_.entry(l, (int)head, n_past_ + i, k.data(), v.data());
        if (!learned_.empty()) learned_[head * n_new_ + i] = k[0];  // a number of the entry's own
        if (!session_.cache_index()) attention::rotate(engine_.rope_table.rope(l), n_past_ + i, k.data());
        const std::size_t row = head * n_new_ + i;
        attention::store_key(k.data(), h_.d_k, shape_.type_k, form.of_head(head, k.size()), nullptr,
                             memory_.workspace.k.data() + row * shape_.k_row());
        attention::store_row(v.data(), h_.d_v, shape_.type_v, memory_.workspace.v.data() + row * shape_.v_row());
      }
    });
  }

  // Of the tokens in a lane's slots, then of the segment's own.
  std::vector<std::int64_t> positions_by_slot(int l, int head) const {
    const auto order = session_.cache().slots(l, head);
    const auto tokens = session_.cache().positions(l, head);
    std::vector<std::int64_t> positions(order.size() + n_new_);
    for (std::size_t i = 0; i < order.size(); ++i) positions[order[i]] = tokens[i];
    for (std::size_t i = 0; i < n_new_; ++i) positions[order.size() + i] = (std::int64_t)(n_past_ + i);
    return positions;
  }

  // How much a head likes a token: the same in every segment, so that what mattered once goes on to matter.
  float liking(int l, std::size_t head, std::int64_t position) const {
    static const HeavyTail tail(1.5f);
    return tail(hashed((std::uint64_t)position << 24 ^ (std::uint64_t)l << 12 ^ head));
  }

  // The probabilities of the window's row r over the entries that it sees. They sum to 1.
  void attention_row(int l, std::size_t head, std::size_t r, std::span<const std::int64_t> positions,
                     float* row) const {
    static const HeavyTail tail(0.5f);
    const std::int64_t last = positions.back();
    double sum = 0;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::int64_t age = last - positions[i];
      const float recent = age < 64 ? 1 + 8 * (float)(64 - age) / 64 : 1;
      row[i] = liking(l, head, positions[i]) * recent * tail(hashed((std::uint64_t)positions[i] << 8 ^ r));
      sum += row[i];
    }
    // The first token gets a third, as it does in trained models.
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (positions[i] > 0) continue;
      sum -= row[i];
      row[i] = sum > 0 ? (float)(sum / 2) : 1;
      sum += row[i];
    }
    for (std::size_t i = 0; i < positions.size(); ++i) row[i] = (float)(row[i] / sum);
  }

  // One typical row times the number of the segment's queries that see each entry.
  void accumulated_row(int l, std::size_t head, std::span<const std::int64_t> positions, float* row,
                       std::size_t n_entries) const {
    attention_row(l, head, 0, positions, row);
    const std::size_t n_kept = positions.size() - n_new_;
    for (std::size_t i = 0; i < positions.size(); ++i) row[i] *= (float)(n_new_ - (i < n_kept ? 0 : i - n_kept));
    std::fill(row + positions.size(), row + n_entries, 0.0f);
  }

  EngineState& engine_;
  PrefillMemory& memory_;
  SessionState& session_;
  const EntrySample& sample_;
  const Hyperparameters& h_;
  const CacheShape& shape_;
  std::size_t n_new_;
  std::size_t n_past_;
  std::vector<float> learned_;  // scores of the layer's new entries, [n_new, n_head_kv]; empty: nobody asks
};

}  // namespace

EntrySample::EntrySample(const Session& session) {
  const SessionState& s = session.state();
  const CacheShape& shape = s.cache().arena().shape();
  assert(s.cache_index() && shape.type_k == GGML_TYPE_F32 && shape.type_v == GGML_TYPE_F32);
  assert(s.n_past() > kFirst && s.cache().length(0) == s.n_past());
  tokens_ = s.tokens();
  d_k_ = (std::size_t)shape.d_k;
  d_v_ = (std::size_t)shape.d_v;
  n_head_kv_ = shape.n_head_kv;
  const std::size_t d = d_k_ + d_v_, n = tokens_.size();
  for (int l = 0; l < shape.n_layer; ++l) {
    for (int h = 0; h < shape.n_head_kv; ++h) {
      Lane& lane = lanes_.emplace_back();
      lane.deviations.resize(d * n);
      const attention::Rows rows = s.cache().rows(l, h);
      const auto order = s.cache().slots(l, h);
      std::vector<double> sum(d);
      for (std::size_t i = 0; i < n; ++i) {
        float* row = lane.deviations.data() + i * d;
        std::copy_n((const float*)((const std::byte*)rows.k + order[i] * rows.k_stride), d_k_, row);
        std::copy_n((const float*)((const std::byte*)rows.v + order[i] * rows.v_stride), d_v_, row + d_k_);
        for (std::size_t c = 0; i >= kFirst && c < d; ++c) sum[c] += row[c];
      }
      for (std::size_t c = 0; c < d; ++c) lane.mean.push_back((float)(sum[c] / (double)(n - kFirst)));
      for (std::size_t i = 0; i < n * d; ++i) lane.deviations[i] -= lane.mean[i % d];
    }
  }
}

std::uint64_t EntrySample::bytes() const {
  return lanes_.size() * (d_k_ + d_v_) * (tokens_.size() + 1) * sizeof(float);
}

void EntrySample::entry(int layer, int head, std::size_t position, float* k, float* v) const {
  const std::size_t index = (std::size_t)layer * (std::size_t)n_head_kv_ + (std::size_t)head;
  const Lane& lane = lanes_[index];
  const std::size_t d = d_k_ + d_v_, n = tokens_.size();
  const auto join = [&](const float* a, float by_a, const float* b, float by_b) {
    for (std::size_t c = 0; c < d_k_; ++c) k[c] = lane.mean[c] + by_a * a[c] + by_b * b[c];
    for (std::size_t c = d_k_; c < d; ++c) v[c - d_k_] = lane.mean[c] + by_a * a[c] + by_b * b[c];
  };
  const float* rows = lane.deviations.data();
  if (position < n) return join(rows + position * d, 1, rows, 0);
  const std::uint64_t bits = hashed((std::uint64_t)position << 20 ^ index);
  const std::size_t i = kFirst + (bits & 0xFFFFFFFF) % (n - kFirst), j = kFirst + (bits >> 32) % (n - kFirst);
  join(rows + i * d, kOwn, rows + j * d, kOther);
}

bool fill_synthetic(Engine& engine, Session& session, const EntrySample& sample, std::size_t n_tokens,
                    const PrefillOptions& options) {
  assert(n_tokens > 0);
  SessionState& s = session.state();
  std::vector<Token> tokens(n_tokens);
  for (std::size_t i = 0; i < n_tokens; ++i) tokens[i] = sample.token(s.n_past() + i);
  s.check_segment(tokens, options);
  const bool exact = s.options().prefill == PrefillMode::kExact;
  const std::size_t chunk = exact ? n_tokens : s.plan().chunk;
  const std::size_t n_chunks = (n_tokens + chunk - 1) / chunk;
  const int n_layer = engine.state().model.hyperparameters.n_layer;
  PrefillMemory memory;
  double done = 0;
  for (std::size_t i = 0; i < n_chunks; ++i) {
    const std::size_t from = n_tokens * i / n_chunks, n = n_tokens * (i + 1) / n_chunks - from;
    SyntheticSegment segment(engine.state(), s, memory, sample, n);
    for (int l = 0; l < n_layer; ++l) {
      segment.layer(l);
      done += (double)n / n_layer;
      if (options.progress && !options.progress((std::size_t)(done + 0.5), n_tokens)) return false;
    }
    s.fed(std::span(tokens).subspan(from, n));
    s.reserve_lanes();
  }
  return true;
}

}  // namespace lacake
