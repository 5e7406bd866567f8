#include "engine/prefill_pass.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "engine/entry_measures.h"
#include "engine/input_watch.h"
#include "engine/layer_decision.h"
#include "engine/layer_graph.h"
#include "engine/layer_record.h"
#include "engine/pass_chunks.h"
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

}  // namespace

class PrefillPass::Run {
 public:
  Run(EngineState& engine, std::span<SessionState* const> sessions, PrefillMemory& memory, const PassOptions& options)
      : engine_(engine),
        sessions_(sessions.begin(), sessions.end()),
        memory_(memory),
        options_(options),
        n_new_(options.tokens.size()),
        chunks_(options_.tokens, options_.probes),
        h_(engine.model.hyperparameters),
        shape_(sessions_[0]->cache().arena().shape()),
        // A conversation's first segment stands at the same positions in both forms, and kernels need not rotate what
        // is rotated: one pass serves caches of both.
        rotated_(!sessions_[0]->cache_index() || sessions_[0]->cache().empty()),
        n_past_(sessions_[0]->n_past()),
        hidden_(engine, memory.hidden, chunks_.n_columns()) {
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
        if (++at_ == chunks_.size()) next(Stage::kLayer);
        break;
      case Stage::kLayer:
        if (at_ == 0) begin_layer();
        attend();
        work_done_ += (double)chunk().tokens.size() / h_.n_layer;
        if (++at_ == chunks_.size()) next(Stage::kDecide);
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
    at_ = 0;
  }

  const PassChunk& chunk() const { return chunks_[at_]; }

  void embed() {
    const std::span<const Token> tokens = chunk().tokens;
    const std::size_t n = tokens.size();
    Graph graph(16 + 8 * engine_.model.loras.size());
    ggml_tensor* ids = graph.input(GGML_TYPE_I32, (std::int64_t)n);
    BlockBuilder builder(graph, h_, engine_.model.weights, engine_.matmuls(/*batch_invariant*/ false));
    graph.output(ggml_cpy(graph.context(), builder.embed(ids), hidden_.columns(graph, chunk().column, n)));
    engine_.place.allocate(graph);
    ggml_backend_tensor_set(ids, tokens.data(), 0, n * sizeof(Token));
    engine_.place.run(graph);
  }

  // What holds for all chunks of the layer.
  void begin_layer() {
    n_kept_ = sessions_[0]->cache().length(layer_);
    std::vector<Measures> asked;
    for (const SessionState* s : sessions_) asked.push_back(asked_by(*s));
    const std::int64_t query_shift = asked[0].query_shift;
    record_ = LayerRecord(h_, std::move(asked), chunks_,
                          {.index = layer_,
                           .n_kept = n_kept_,
                           .n_new = n_new_,
                           .learned = engine_.learned(layer_),
                           .threads = engine_.place.threads()});
    reserve_workspace();
    const LayerKind& kind = h_.layers[(std::size_t)layer_];
    first_position_ = rotated_ ? (std::int64_t)n_past_ : (std::int64_t)n_kept_ + query_shift;
    rotates_stored_ = !rotated_ && kind.rope != kNoRope;
    if (kind.window > 0) rank_past();
    if (!rotated_) {
      engine_.rope_table.extend(engine_.place, n_kept_ + chunks_.n_rows());
      fresh_index_.resize(chunks_.n_rows());
      std::iota(fresh_index_.begin(), fresh_index_.end(), (std::int32_t)n_kept_);
    }
  }

  void reserve_workspace() {
    const std::size_t rows = chunks_.n_rows() * (std::size_t)h_.n_head_kv;
    WorkspaceShape needed{.k = rows * shape_.k_row(),
                          .v = rows * shape_.v_row(),
                          .record = record_.record_bytes(),
                          .inputs = record_.input_bytes()};
    if (keeps_plain_) needed.k_plain = needed.k;
    memory_.workspace.reserve(needed);
    record_.place(reinterpret_cast<float*>(memory_.workspace.record.data()),
                  reinterpret_cast<float*>(memory_.workspace.inputs.data()));
  }

  void attend() {
    const PassChunk& c = chunk();
    const std::size_t n = c.tokens.size();
    attention::PrefillLayer attention;
    attention.shape = layer_shape();
    attention.arithmetic = engine_.place.attention().arithmetic(shape_.type_k, shape_.type_v);
    attention.window = (std::size_t)h_.layers[(std::size_t)layer_].window;
    for (int h = 0; h < h_.n_head_kv; ++h) {
      attention.past.push_back(sessions_[0]->cache().rows(layer_, h));
      if (!rotates_stored_) attention.past.back().rope_index = nullptr;
      if (attention.window > 0) attention.past.back().token_rank = token_rank_.data();
    }
    attention.k = memory_.workspace.k.data();
    attention.v = memory_.workspace.v.data();
    attention.capacity = chunks_.n_rows();
    attention.fresh_index = rotates_stored_ ? fresh_index_.data() : nullptr;
    attention.first = c.row;
    attention.n_entries = n_kept_ + chunks_.n_rows();
    attention.scratch = &engine_.scratch;
    attention::RepeatLayer repeat;
    record_.ask_attention(c, sessions_[0]->cache(), attention, repeat);

    PlainKeys plain{.capacity = chunks_.n_rows(), .first = c.row, .type = shape_.type_k};
    if (keeps_plain_) plain.to = memory_.workspace.k_plain.data(), plain.form = engine_.key_forms.plain(layer_);
    SeenQueries queries{.first_token = (std::int64_t)(n_past_ + c.row)};
    if (record_.wants_queries(c)) queries.by = &record_.entries();
    InputWatch watch = record_.watch_of(c);
    LayerGraph g(engine_, layer_, n, rotated_, &attention, &plain, &queries, &watch,
                 [&](Graph& graph) { return hidden_.columns(graph, c.column, n); });
    engine_.place.allocate(g.graph);
    positions_.resize(n);
    std::iota(positions_.begin(), positions_.end(), (std::int32_t)(first_position_ + (std::int64_t)c.row));
    ggml_backend_tensor_set(g.positions, positions_.data(), 0, n * sizeof(std::int32_t));
    engine_.place.run(g.graph);
    if (queries.by) record_.entries().added({.n = n, .first_token = queries.first_token});
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

  void decide() {
    PassedLayer layer{.index = layer_,
                      .n_past = n_past_,
                      .n_probe = chunks_.n_probe(),
                      .more_follows = options_.more_follows,
                      .shape = layer_shape(),
                      .attended = {.k = memory_.workspace.k.data(),
                                   .v = memory_.workspace.v.data(),
                                   .capacity = chunks_.n_rows(),
                                   .n = n_new_,
                                   .first_position = (std::int64_t)n_past_},
                      .rotates_kept = rotates_stored_,
                      .fresh_index = rotates_stored_ ? fresh_index_.data() : nullptr,
                      .first_position = first_position_};
    layer.plain = layer.attended;
    if (keeps_plain_) layer.plain.k = memory_.workspace.k_plain.data();
    decide_layer(engine_, sessions_, layer, record_);
  }

  // With the form of the keys that attention reads.
  attention::Shape layer_shape() const {
    attention::Shape shape = engine_.attention_shape(layer_, shape_);
    if (rotates_stored_) shape.key_form = engine_.key_forms.plain(layer_);
    return shape;
  }

  Measures asked_by(const SessionState& s) const {
    if (engine_.layers.slides(layer_)) return {};
    const int layer = engine_.layers.policy_layer(layer_);
    return options_.more_follows ? s.policy().measures_before_question(layer, n_kept_ + n_new_, n_new_)
                                 : s.policy().measures(Phase::kPrefill, layer, n_kept_ + n_new_, n_new_);
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
  PassChunks chunks_;
  const Hyperparameters& h_;
  const CacheShape& shape_;
  bool rotated_;              // keys as attention reads them
  bool keeps_plain_ = false;  // beside them for some cache
  std::size_t n_past_;
  Hidden hidden_;

  Stage stage_ = Stage::kEmbed;
  int layer_ = 0;
  std::size_t at_ = 0;    // the next chunk
  std::size_t from_ = 0;  // the next token whose logits are wanted
  double work_done_ = 0;

  // Of the layer at hand.
  std::size_t n_kept_ = 0;
  std::int64_t first_position_ = 0;
  bool rotates_stored_ = false;  // keys that the cache and the workspace hold are rotated where they are read
  LayerRecord record_;
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

std::uint64_t prefill_compute_bytes(EngineState& engine, const CacheShape& shape, std::size_t n_kept, std::size_t n_new,
                                    bool sees_queries) {
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
  EntryMeasures entries;
  SeenQueries queries{.by = sees_queries ? &entries : nullptr};
  InputWatch watch;
  LayerGraph layer(engine, 0, n, true, &attention, &plain, &queries, &watch,
                   [&](Graph& graph) { return graph.input(GGML_TYPE_F32, h.n_embd, (std::int64_t)n); });
  const std::size_t scratch =
      std::max(attention::prefill_scratch_bytes(attention.shape), attention::decode_scratch_bytes(attention.shape));
  return engine.place.measure(layer.graph) + scratch * (std::uint64_t)engine.place.threads();
}

}  // namespace lacake
