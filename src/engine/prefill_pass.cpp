#include "engine/prefill_pass.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "engine/deferred_edits.h"
#include "graph/block.h"

namespace lacake {
namespace {

// Tokens whose logits are computed at once where all are wanted.
constexpr std::size_t kLogitsChunk = 32;

// Tensors over a part of the segment's hidden states.
class Hidden {
 public:
  Hidden(const EngineState& engine, GrowingBuffer& memory, std::size_t n_tokens)
      : n_embd_(engine.model.hyperparameters.n_embd) {
    const std::uint64_t alignment = 64, bytes = (std::uint64_t)n_embd_ * n_tokens * sizeof(float);
    memory.reserve(bytes + alignment);
    base_ = (float*)(((std::uintptr_t)memory.data() + alignment - 1) / alignment * alignment);
    buffer_ = engine.place.wrap(base_, bytes);
  }

  ggml_tensor* columns(Graph& graph, std::size_t from, std::size_t n) const {
    ggml_tensor* t = ggml_new_tensor_2d(graph.context(), GGML_TYPE_F32, n_embd_, (std::int64_t)n);
    ggml_backend_tensor_alloc(buffer_.get(), t, base_ + from * (std::size_t)n_embd_);
    return t;
  }

 private:
  int n_embd_;
  float* base_ = nullptr;
  ggml_backend_buffer_ptr buffer_;
};

// Where a chunk's keys go as projected, beside the rotated ones that attention reads: for caches that keep them so.
struct PlainKeys {
  std::byte* to = nullptr;  // [n_head_kv] blocks of `capacity` rows, the chunk's from `first` on; null: not wanted
  std::size_t capacity = 0;
  std::size_t first = 0;
  ggml_type type = GGML_TYPE_F16;
  attention::KeyForm form = {};  // of all heads
};

void store_plain(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& keys = *(const PlainKeys*)userdata;
  const ggml_tensor* k = dst->src[0];
  const int d = (int)k->ne[0];
  const std::size_t row_bytes = ggml_row_size(keys.type, d);
  for (std::int64_t j = ith; j < k->ne[2]; j += nth) {
    for (std::int64_t h = 0; h < k->ne[1]; ++h) {
      const std::size_t row = (std::size_t)h * keys.capacity + keys.first + (std::size_t)j;
      const char* from = (const char*)k->data + h * (std::int64_t)k->nb[1] + j * (std::int64_t)k->nb[2];
      attention::store_key((const float*)from, d, keys.type, keys.form.of_head((std::size_t)h, (std::size_t)d), nullptr,
                           keys.to + row * row_bytes);
    }
  }
}

// The graph of one layer over one chunk: hidden states in, hidden states out, K and V to the workspace.
struct LayerGraph {
  LayerGraph(EngineState& engine, int layer, std::size_t n, bool rotated, attention::PrefillLayer* attention,
             PlainKeys* plain, const std::function<ggml_tensor*(Graph&)>& columns)
      : graph(nodes_per_block(engine.model.hyperparameters, engine.model.loras.size()) +
              engine.place.attention().n_nodes(attention->past.size())) {
    BlockBuilder builder(graph, engine.model.hyperparameters, engine.model.weights,
                         engine.matmuls(/*batch_invariant*/ false));
    ggml_tensor* x = columns(graph);
    positions = graph.input(GGML_TYPE_I32, (std::int64_t)n);
    const auto rotate = [&](ggml_tensor* keys, ggml_tensor* at) {
      return builder.rope(keys, at, engine.model.hyperparameters.layers[(std::size_t)layer].rope);
    };
    const auto node = [&](const Projections& p) {
      if (plain->to) {
        ggml_tensor* args[] = {p.k};
        graph.output(
            ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, args, 1, store_plain, GGML_N_TASKS_MAX, plain));
      }
      return engine.place.attention().prefill(graph, p, rotated ? p.k_rotated : p.k_plain, attention, rotate);
    };
    ggml_tensor* y = builder.block(layer, x, positions, rotated ? (std::int64_t)n : 0, node);
    graph.output(ggml_cpy(graph.context(), y, x));
  }
  Graph graph;
  ggml_tensor* positions;
};

}  // namespace

class PrefillPass::Run {
 public:
  Run(EngineState& engine, std::span<SessionState* const> sessions, PrefillMemory& memory, const PassOptions& options)
      : engine_(engine),
        sessions_(sessions.begin(), sessions.end()),
        memory_(memory),
        options_(options),
        n_new_(options.tokens.size()),
        n_rows_(n_new_ + options.probe.size()),
        h_(engine.model.hyperparameters),
        shape_(sessions_[0]->cache().arena().shape()),
        // A conversation's first segment stands at the same positions in both forms, and kernels need not rotate what
        // is rotated: one pass serves caches of both.
        rotated_(!sessions_[0]->cache_index() || sessions_[0]->cache().empty()),
        n_past_(sessions_[0]->n_past()),
        hidden_(engine, memory.hidden, n_rows_) {
    for (const SessionState* s : sessions_) {
      assert(sessions_.size() == 1 || s->cache().empty());
      keeps_plain_ = keeps_plain_ || (rotated_ && s->cache_index());
    }
  }

  bool finished() const { return stage_ == Stage::kFinished; }
  double work_done() const { return work_done_; }

  void advance() {
    assert(!finished());
    // Other sessions and jobs may have used it for shapes of their own.
    engine_.scratch.reserve(engine_.place.threads(),
                            attention::prefill_scratch_bytes(engine_.attention_shape(0, shape_)));
    switch (stage_) {
      case Stage::kEmbed:
        embed();
        if (end_of_chunk()) next(Stage::kLayer);
        break;
      case Stage::kLayer:
        if (from_ == 0) begin_layer();
        attend();
        work_done_ += (double)chunk_size() / h_.n_layer;
        if (end_of_chunk()) next(Stage::kDecide);
        break;
      case Stage::kDecide:
        decide();
        if (++layer_ < h_.n_layer) {
          next(Stage::kLayer);
        } else {
          next(Stage::kLogits);
          from_ = options_.all_logits ? 0 : n_new_ - 1;
          if (!options_.all_logits && !options_.last_logits) finish();
        }
        break;
      case Stage::kLogits:
        logits();
        if (from_ == n_new_) finish();
        break;
      case Stage::kFinished:
        break;
    }
  }

 private:
  enum class Stage { kEmbed, kLayer, kDecide, kLogits, kFinished };

  void next(Stage stage) {
    stage_ = stage;
    from_ = 0;
  }
  // A chunk holds either the segment's own tokens or those of the probe.
  std::size_t chunk_size() const { return std::min(kComputeChunk, (from_ < n_new_ ? n_new_ : n_rows_) - from_); }
  bool end_of_chunk() { return (from_ += chunk_size()) == n_rows_; }

  void embed() {
    const std::size_t n = chunk_size();
    const std::span<const Token> tokens =
        from_ < n_new_ ? options_.tokens.subspan(from_, n) : options_.probe.subspan(from_ - n_new_, n);
    Graph graph(16 + 8 * engine_.model.loras.size());
    ggml_tensor* ids = graph.input(GGML_TYPE_I32, (std::int64_t)n);
    BlockBuilder builder(graph, h_, engine_.model.weights, engine_.matmuls(/*batch_invariant*/ false));
    graph.output(ggml_cpy(graph.context(), builder.embed(ids), hidden_.columns(graph, from_, n)));
    engine_.place.allocate(graph);
    ggml_backend_tensor_set(ids, tokens.data(), 0, n * sizeof(Token));
    engine_.place.run(graph);
  }

  // What holds for all chunks of the layer.
  void begin_layer() {
    n_kept_ = sessions_[0]->cache().length(layer_);
    reserve_workspace(wanted());
    const LayerKind& kind = h_.layers[(std::size_t)layer_];
    first_position_ = rotated_ ? (std::int64_t)n_past_ : (std::int64_t)n_kept_ + asked_by(*sessions_[0]).query_shift;
    rotates_stored_ = !rotated_ && kind.rope != kNoRope;
    if (kind.window > 0) rank_past();
    if (!rotated_) {
      engine_.rope_table.extend(engine_.place, n_kept_ + n_rows_);
      fresh_index_.resize(n_rows_);
      std::iota(fresh_index_.begin(), fresh_index_.end(), (std::int32_t)n_kept_);
    }
  }

  void reserve_workspace(const Measures& measures) {
    const std::size_t n_entries = n_kept_ + n_rows_, n_head = (std::size_t)h_.n_head;
    const std::size_t observed = options_.probe.empty() ? n_new_ : options_.probe.size();
    n_recorded_ = std::min((std::size_t)measures.window, observed);
    WorkspaceShape needed{
        .k = n_rows_ * (std::size_t)h_.n_head_kv * shape_.k_row(),
        .v = n_rows_ * (std::size_t)h_.n_head_kv * shape_.v_row(),
        .record = n_entries * (n_recorded_ + (measures.accumulated ? 1 : 0)) * n_head * sizeof(float)};
    if (keeps_plain_) needed.k_plain = needed.k;
    memory_.workspace.reserve(needed);
    auto* record = (float*)memory_.workspace.record.data();
    record_ = n_recorded_ > 0 ? record : nullptr;
    sums_ = measures.accumulated ? record + n_entries * n_recorded_ * n_head : nullptr;
    if (sums_) std::fill_n(sums_, n_entries * n_head, 0.0f);
  }

  // One chunk through the layer. A probe's chunks alone are observed where there is one.
  void attend() {
    const std::size_t n = chunk_size();
    attention::PrefillLayer attention;
    attention.shape = engine_.attention_shape(layer_, shape_);
    if (rotates_stored_) attention.shape.key_form = engine_.key_forms.plain(layer_);
    attention.arithmetic = engine_.place.attention().arithmetic(shape_.type_k, shape_.type_v);
    attention.window = (std::size_t)h_.layers[(std::size_t)layer_].window;
    for (int h = 0; h < h_.n_head_kv; ++h) {
      attention.past.push_back(sessions_[0]->cache().rows(layer_, h));
      if (!rotates_stored_) attention.past.back().rope_index = nullptr;
      if (attention.window > 0) attention.past.back().token_rank = token_rank_.data();
    }
    attention.k = memory_.workspace.k.data();
    attention.v = memory_.workspace.v.data();
    attention.capacity = n_rows_;
    attention.fresh_index = rotates_stored_ ? fresh_index_.data() : nullptr;
    attention.first = from_;
    attention.n_entries = n_kept_ + n_rows_;
    if (from_ + n > n_rows_ - n_recorded_) {
      attention.record = record_;
      attention.record_from = n_rows_ - n_recorded_;
      attention.record_rows = n_recorded_;
    }
    if (options_.probe.empty() || from_ >= n_new_) attention.sums = sums_;
    attention.scratch = &engine_.scratch;

    PlainKeys plain{.capacity = n_rows_, .first = from_, .type = shape_.type_k};
    if (keeps_plain_) plain.to = memory_.workspace.k_plain.data(), plain.form = engine_.key_forms.plain(layer_);
    LayerGraph g(engine_, layer_, n, rotated_, &attention, &plain,
                 [&](Graph& graph) { return hidden_.columns(graph, from_, n); });
    engine_.place.allocate(g.graph);
    positions_.resize(n);
    std::iota(positions_.begin(), positions_.end(), (std::int32_t)(first_position_ + (std::int64_t)from_));
    ggml_backend_tensor_set(g.positions, positions_.data(), 0, n * sizeof(std::int32_t));
    engine_.place.run(g.graph);
  }

  void logits() {
    const std::size_t n = std::min(kLogitsChunk, n_new_ - from_), n_vocab = (std::size_t)h_.n_vocab;
    Graph graph(16 + 8 * engine_.model.loras.size());
    BlockBuilder builder(graph, h_, engine_.model.weights, engine_.matmuls(/*batch_invariant*/ false));
    ggml_tensor* y = builder.head(hidden_.columns(graph, from_, n));
    graph.output(y);
    engine_.place.allocate(graph);
    engine_.place.run(graph);
    logits_.resize(n * n_vocab);
    ggml_backend_tensor_get(y, logits_.data(), 0, logits_.size() * sizeof(float));
    for (std::size_t i = 0; options_.all_logits && i < n; ++i) {
      options_.all_logits(options_.first_index + from_ + i, {logits_.data() + i * n_vocab, n_vocab});
    }
    from_ += n;
  }

  void finish() {
    const std::size_t n_vocab = (std::size_t)h_.n_vocab;
    for (SessionState* s : sessions_) {
      if (options_.last_logits) s->logits().assign(logits_.end() - (std::ptrdiff_t)n_vocab, logits_.end());
      s->fed(options_.tokens);
      s->reserve_lanes();
    }
    stage_ = Stage::kFinished;
  }

  // What some of the sessions are shown of a layer: those whose caches are empty see the same if they ask for the same.
  struct Shown {
    Measures asked;
    SegmentRows fresh;  // in the form that they store
    SessionState* first;
    const Observation* seen = nullptr;
  };

  // Sessions know nothing of each other: first what each kind of them asked for is measured, then each decides about
  // its own cache, all of it on the engine's threads.
  void decide() {
    const PolicyTime::Running timed(engine_.policy_time);
    const bool slides = engine_.layers.slides(layer_);
    std::vector<std::size_t> shown_to;  // by session
    std::vector<Shown> shown = distinct_views(shown_to);
    if (!slides) {
      engine_.workers.each(shown.size(), [&](std::size_t i, int) {
        Shown& of = shown[i];
        of.seen = &of.first->observer().observe(of.asked, of.first->cache(), visit(of));
      });
    }
    engine_.workers.each(sessions_.size(), [&](std::size_t i, int) {
      SessionState& s = *sessions_[i];
      const Shown& of = shown[shown_to[i]];
      DeferredEdits edits(s.cache(), engine_.layers, layer_, n_new_);
      if (slides) {
        edits.keep_newest(layer_, n_kept_ + n_new_, s.plan().sliding_entries);
      } else {
        s.policy().update(*of.seen, edits);
      }
      edits.apply(s.cache(), layer_, of.fresh);
    });
  }

  std::vector<Shown> distinct_views(std::vector<std::size_t>& shown_to) const {
    const SegmentRows attended{.k = memory_.workspace.k.data(),
                               .v = memory_.workspace.v.data(),
                               .capacity = n_rows_,
                               .n = n_new_,
                               .first_position = (std::int64_t)n_past_};
    SegmentRows plain = attended;
    if (keeps_plain_) plain.k = memory_.workspace.k_plain.data();
    std::vector<Shown> shown;
    for (SessionState* s : sessions_) {
      const SegmentRows& fresh = s->cache_index() ? plain : attended;
      const Measures asked = asked_by(*s);
      const auto same = [&](const Shown& other) { return other.asked == asked && other.fresh.k == fresh.k; };
      const auto it = std::find_if(shown.begin(), shown.end(), same);
      shown_to.push_back((std::size_t)(it - shown.begin()));
      if (it == shown.end()) shown.push_back({.asked = asked, .fresh = fresh, .first = s});
    }
    return shown;
  }

  // REQUIRES: the layer does not slide.
  LayerVisit visit(const Shown& shown) const {
    return {.phase = Phase::kPrefill,
            .layer = layer_,
            .policy_layer = engine_.layers.policy_layer(layer_),
            .n_head = h_.n_head,
            .n_new = n_new_,
            .n_past = (std::int64_t)n_past_,
            .n_probe = options_.probe.size(),
            .more_follows = options_.more_follows,
            .recording = {.probabilities = record_, .n_rows = n_recorded_, .sums = sums_, .stride = n_kept_ + n_rows_},
            .fresh = shown.fresh,
            .key_form = shown.first->key_form(layer_)};
  }

  Measures asked_by(const SessionState& s) const {
    if (engine_.layers.slides(layer_)) return {};
    return s.policy().measures(Phase::kPrefill, engine_.layers.policy_layer(layer_), n_kept_ + n_new_, n_new_);
  }

  // What the sessions' policies ask together: the widest window serves the narrower ones.
  Measures wanted() const {
    Measures all;
    for (const SessionState* s : sessions_) {
      const Measures m = asked_by(*s);
      all.window = std::max(all.window, m.window);
      all.accumulated = all.accumulated || m.accumulated;
    }
    return all;
  }

  // The rank of each slot's token by age, in a layer that slides; all its heads keep the same.
  void rank_past() {
    const auto slots = sessions_[0]->cache().slots(layer_, 0);
    token_rank_.resize(slots.size());
    for (std::size_t i = 0; i < slots.size(); ++i) token_rank_[slots[i]] = (std::int32_t)i;
  }

  EngineState& engine_;
  std::vector<SessionState*> sessions_;
  PrefillMemory& memory_;
  PassOptions options_;
  std::size_t n_new_;
  std::size_t n_rows_;  // with the probe's
  const Hyperparameters& h_;
  const CacheShape& shape_;
  bool rotated_;              // keys as attention reads them
  bool keeps_plain_ = false;  // beside them for some cache
  std::size_t n_past_;
  Hidden hidden_;

  Stage stage_ = Stage::kEmbed;
  int layer_ = 0;
  std::size_t from_ = 0;  // where the next chunk begins
  double work_done_ = 0;

  // Of the layer at hand.
  std::size_t n_kept_ = 0;
  std::int64_t first_position_ = 0;
  bool rotates_stored_ = false;  // keys that the cache and the workspace hold are rotated where they are read
  std::size_t n_recorded_ = 0;   // queries whose probabilities are recorded: the last ones
  float* record_ = nullptr;
  float* sums_ = nullptr;
  std::vector<std::int32_t> positions_, fresh_index_, token_rank_;
  std::vector<float> logits_;
};

PrefillPass::PrefillPass(EngineState& engine, std::span<SessionState* const> sessions, PrefillMemory& memory,
                         const PassOptions& options)
    : run_(std::make_unique<Run>(engine, sessions, memory, options)) {}
PrefillPass::~PrefillPass() = default;

void PrefillPass::advance() { run_->advance(); }
bool PrefillPass::finished() const { return run_->finished(); }
double PrefillPass::work_done() const { return run_->work_done(); }

std::uint64_t prefill_compute_bytes(EngineState& engine, const CacheShape& shape, std::size_t n_kept,
                                    std::size_t n_new) {
  const Hyperparameters& h = engine.model.hyperparameters;
  const std::size_t n = std::min(n_new, kComputeChunk);
  attention::PrefillLayer attention;
  attention.shape = engine.attention_shape(0, shape);
  // A composition's graph holds all entries: the last chunk has the most.
  static std::byte nowhere;
  attention.past.assign((std::size_t)h.n_head_kv, {.k = &nowhere, .v = &nowhere, .n = n_kept});
  attention.k = attention.v = &nowhere;
  attention.first = n_new - n;
  PlainKeys plain{.to = &nowhere};
  LayerGraph layer(engine, 0, n, true, &attention, &plain,
                   [&](Graph& graph) { return graph.input(GGML_TYPE_F32, h.n_embd, (std::int64_t)n); });
  const std::size_t scratch =
      std::max(attention::prefill_scratch_bytes(attention.shape), attention::decode_scratch_bytes(attention.shape));
  return engine.place.measure(layer.graph) + scratch * (std::uint64_t)engine.place.threads();
}

}  // namespace lacake
