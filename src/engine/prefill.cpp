#include "engine/prefill.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "attention/composed.h"
#include "engine/deferred_edits.h"
#include "graph/block.h"
#include "model/device.h"

namespace lacake {
namespace {

// Tokens whose logits are computed at once where all are wanted.
constexpr std::size_t kLogitsChunk = 32;

// Tensors over a part of the segment's hidden states.
class Hidden {
 public:
  Hidden(Engine::Parts& engine, std::size_t n_tokens) : n_embd_(engine.model.hyperparameters.n_embd) {
    const std::uint64_t alignment = 64, bytes = (std::uint64_t)n_embd_ * n_tokens * sizeof(float);
    engine.hidden.reserve(bytes + alignment);
    base_ = (float*)(((std::uintptr_t)engine.hidden.data() + alignment - 1) / alignment * alignment);
    buffer_.reset(ggml_backend_dev_buffer_from_host_ptr(cpu_device(), base_, bytes, 0));
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
      attention::store_row((const float*)from, d, keys.type, keys.to + row * row_bytes);
    }
  }
}

// The graph of one layer over one chunk: hidden states in, hidden states out, K and V to the workspace.
struct LayerGraph {
  LayerGraph(Engine::Parts& engine, int layer, std::size_t n, bool rotated, attention::PrefillLayer* attention,
             PlainKeys* plain, const std::function<ggml_tensor*(Graph&)>& columns)
      : graph(nodes_per_block(engine.model.hyperparameters, engine.model.loras.size()) +
              (composed(engine) ? attention::composed_nodes(attention->past.size()) : 0)) {
    BlockBuilder builder(graph, engine.model.hyperparameters, engine.model.weights,
                         engine.matmuls(/*batch_invariant*/ false));
    ggml_tensor* x = columns(graph);
    positions = graph.input(GGML_TYPE_I32, (std::int64_t)n);
    const auto turned = [&](ggml_tensor* keys, ggml_tensor* at) {
      return builder.rope(keys, at, engine.model.hyperparameters.layers[(std::size_t)layer].rope);
    };
    const auto node = [&](const Projections& p) {
      if (plain->to) {
        ggml_tensor* args[] = {p.k};
        graph.output(
            ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, args, 1, store_plain, GGML_N_TASKS_MAX, plain));
      }
      ggml_tensor* k = rotated ? p.k_rotated : p.k_plain;
      if (!composed(engine)) return attention::prefill_node(graph.context(), p.q, k, p.v, attention);
      return attention::composed_prefill(graph.context(), graph.graph(), p.q, k, p.v, attention, turned);
    };
    ggml_tensor* y = builder.block(layer, x, positions, rotated ? (std::int64_t)n : 0, node);
    graph.output(ggml_cpy(graph.context(), y, x));
  }
  static bool composed(const Engine::Parts& engine) { return engine.attention == attention::Method::kGgml; }
  Graph graph;
  ggml_tensor* positions;
};

class SegmentRun {
 public:
  SegmentRun(Engine::Parts& engine, std::span<SessionImpl* const> sessions, std::span<const Token> tokens)
      : engine_(engine),
        sessions_(sessions),
        tokens_(tokens),
        h_(engine.model.hyperparameters),
        shape_(sessions[0]->cache().arena().shape()),
        attention_shape_{h_.n_layer, h_.n_head, h_.n_head_kv},
        // A conversation's first segment stands at the same positions in both forms, and kernels need not turn what is
        // rotated: one pass serves caches of both.
        rotated_(!sessions[0]->cache_index() || sessions[0]->cache().empty()),
        n_past_(sessions[0]->n_past()),
        hidden_(engine, tokens.size()) {
    for (const SessionImpl* s : sessions) {
      assert(sessions.size() == 1 || s->cache().empty());
      keeps_plain_ = keeps_plain_ || (rotated_ && s->cache_index());
    }
    engine_.scratch.reserve(engine_.compute.threads(), attention::prefill_scratch_bytes(kernel_shape(0)));
  }

  void embed() {
    for (std::size_t from = 0; from < tokens_.size(); from += kComputeChunk) {
      const std::size_t n = std::min(kComputeChunk, tokens_.size() - from);
      Graph graph(16 + 8 * engine_.model.loras.size());
      ggml_tensor* ids = graph.input(GGML_TYPE_I32, (std::int64_t)n);
      BlockBuilder builder(graph, h_, engine_.model.weights, engine_.matmuls(/*batch_invariant*/ false));
      graph.output(ggml_cpy(graph.context(), builder.embed(ids), hidden_.columns(graph, from, n)));
      engine_.compute.allocate(graph);
      ggml_backend_tensor_set(ids, tokens_.data() + from, 0, n * sizeof(Token));
      engine_.compute.run(graph);
    }
  }

  // One layer over the whole segment, then the policies' decisions. False if the hook stopped it.
  bool layer(int l, PrefillProgress& progress) {
    const std::size_t n_new = tokens_.size();
    const std::size_t n_kept = sessions_[0]->cache().length(l);
    const std::size_t n_entries = n_kept + n_new;
    const Measures measures = wanted(l, n_entries);
    const std::size_t rows = std::min((std::size_t)measures.window, n_new);
    const std::size_t n_head = (std::size_t)h_.n_head;
    WorkspaceShape needed{.k = n_new * (std::size_t)h_.n_head_kv * shape_.k_row(),
                          .v = n_new * (std::size_t)h_.n_head_kv * shape_.v_row(),
                          .record = n_entries * (rows + (measures.accumulated ? 1 : 0)) * n_head * sizeof(float)};
    if (keeps_plain_) needed.k_plain = needed.k;
    engine_.workspace.reserve(needed);
    float* record = rows > 0 ? (float*)engine_.workspace.record.data() : nullptr;
    float* sums = nullptr;
    if (measures.accumulated) {
      sums = (float*)engine_.workspace.record.data() + n_entries * rows * n_head;
      std::fill_n(sums, n_entries * n_head, 0.0f);
    }

    const std::int64_t first_position =
        rotated_                   ? (std::int64_t)n_past_
        : engine_.layers.slides(l) ? (std::int64_t)n_kept
                                   : sessions_[0]->policy().query_position(engine_.layers.policy_layer(l), n_kept);
    const LayerKind& kind = h_.layers[(std::size_t)l];
    const bool turn_stored = !rotated_ && kind.rope != kNoRope;
    if (kind.window > 0) order_past(l);
    if (!rotated_) {
      engine_.rope_table.extend(engine_.compute, n_entries);
      fresh_index_.resize(n_new);
      std::iota(fresh_index_.begin(), fresh_index_.end(), (std::int32_t)n_kept);
    }
    for (std::size_t from = 0; from < n_new; from += kComputeChunk) {
      const std::size_t n = std::min(kComputeChunk, n_new - from);
      attention::PrefillLayer attention;
      attention.shape = kernel_shape(l);
      attention.arithmetic = attention::arithmetic_of(engine_.attention, shape_.type_k, shape_.type_v);
      attention.window = (std::size_t)kind.window;
      for (int h = 0; h < h_.n_head_kv; ++h) {
        attention.past.push_back(sessions_[0]->cache().rows(l, h));
        if (!turn_stored) attention.past.back().rope_index = nullptr;
        if (kind.window > 0) attention.past.back().order = order_.data();
      }
      attention.k = engine_.workspace.k.data();
      attention.v = engine_.workspace.v.data();
      attention.capacity = n_new;
      attention.fresh_index = turn_stored ? fresh_index_.data() : nullptr;
      attention.first = from;
      attention.n_entries = n_entries;
      if (from + n > n_new - rows) {
        attention.record = record;
        attention.record_from = n_new - rows;
        attention.record_rows = rows;
      }
      attention.sums = sums;
      attention.scratch = &engine_.scratch;

      PlainKeys plain{.capacity = n_new, .first = from, .type = shape_.type_k};
      if (keeps_plain_) plain.to = engine_.workspace.k_plain.data();
      LayerGraph g(engine_, l, n, rotated_, &attention, &plain,
                   [&](Graph& graph) { return hidden_.columns(graph, from, n); });
      engine_.compute.allocate(g.graph);
      positions_.resize(n);
      std::iota(positions_.begin(), positions_.end(), (std::int32_t)(first_position + (std::int64_t)from));
      ggml_backend_tensor_set(g.positions, positions_.data(), 0, n * sizeof(std::int32_t));
      engine_.compute.run(g.graph);
      if (!progress.add((double)n / h_.n_layer)) return false;
    }

    const SegmentRows fresh{.k = engine_.workspace.k.data(),
                            .v = engine_.workspace.v.data(),
                            .capacity = n_new,
                            .n = n_new,
                            .first_token = (std::int64_t)n_past_};
    const Recording recording{.probabilities = record, .n_rows = rows, .sums = sums, .stride = n_entries};
    decide(l, n_entries, recording, fresh);
    return true;
  }

  void logits(const PrefillHooks& hooks, std::size_t first_index) {
    const std::size_t n_new = tokens_.size();
    std::vector<float>& last = sessions_[0]->logits_buffer();
    const std::size_t start = hooks.all_logits ? 0 : n_new - 1;
    std::vector<float> chunk;
    for (std::size_t from = start; from < n_new; from += kLogitsChunk) {
      const std::size_t n = std::min(kLogitsChunk, n_new - from);
      Graph graph(16 + 8 * engine_.model.loras.size());
      BlockBuilder builder(graph, h_, engine_.model.weights, engine_.matmuls(/*batch_invariant*/ false));
      ggml_tensor* y = builder.head(hidden_.columns(graph, from, n));
      graph.output(y);
      engine_.compute.allocate(graph);
      engine_.compute.run(graph);
      const std::size_t n_vocab = (std::size_t)h_.n_vocab;
      chunk.resize(n * n_vocab);
      ggml_backend_tensor_get(y, chunk.data(), 0, chunk.size() * sizeof(float));
      if (hooks.all_logits) {
        for (std::size_t i = 0; i < n; ++i) {
          hooks.all_logits(first_index + from + i, {chunk.data() + i * n_vocab, n_vocab});
        }
      }
      last.assign(chunk.end() - (std::ptrdiff_t)n_vocab, chunk.end());
    }
    for (SessionImpl* s : sessions_) s->logits_buffer() = last;
  }

 private:
  // What some of the sessions are shown of a layer: those whose caches are empty see the same if they ask for the same.
  struct Shown {
    Measures asked;
    SegmentRows fresh;  // in the form that they store
    SessionImpl* first;
    const Observation* seen = nullptr;
  };

  // Sessions know nothing of each other: first what each kind of them asked for is measured, then each decides about
  // its own cache, all of it on the engine's threads.
  void decide(int l, std::size_t n_entries, const Recording& recording, const SegmentRows& attended) {
    const PolicyTime::Running timed(engine_.policy_time);
    const bool slides = engine_.layers.slides(l);
    SegmentRows plain = attended;
    if (keeps_plain_) plain.k = engine_.workspace.k_plain.data();
    std::vector<Shown> shown;
    std::vector<std::size_t> shown_to;  // by session
    for (SessionImpl* s : sessions_) {
      const SegmentRows& fresh = s->cache_index() ? plain : attended;
      const Measures asked = asked_by(*s, l, n_entries);
      const auto same = [&](const Shown& other) { return other.asked == asked && other.fresh.k == fresh.k; };
      const auto it = std::find_if(shown.begin(), shown.end(), same);
      shown_to.push_back((std::size_t)(it - shown.begin()));
      if (it == shown.end()) shown.push_back({.asked = asked, .fresh = fresh, .first = s});
    }
    if (!slides) {
      engine_.compute.each(shown.size(), [&](std::size_t i, int) {
        Shown& of = shown[i];
        of.seen = &of.first->observer().observe(of.asked, of.first->cache(), attention_shape_, l,
                                                engine_.layers.policy_layer(l), Phase::kPrefill, tokens_.size(),
                                                (std::int64_t)n_past_, recording, of.fresh);
      });
    }
    engine_.compute.each(sessions_.size(), [&](std::size_t i, int) {
      SessionImpl& s = *sessions_[i];
      const Shown& of = shown[shown_to[i]];
      DeferredEdits decisions(s.cache(), engine_.layers, l, tokens_.size());
      if (slides) {
        decisions.keep_newest(l, n_entries, s.plan().sliding_entries);
      } else {
        s.policy().update(*of.seen, decisions);
      }
      decisions.apply(s.cache(), l, of.fresh);
    });
  }

  Measures asked_by(const SessionImpl& s, int l, std::size_t n_entries) const {
    if (engine_.layers.slides(l)) return {};
    return s.policy().measures(Phase::kPrefill, engine_.layers.policy_layer(l), n_entries, tokens_.size());
  }

  attention::Shape kernel_shape(int l) const {
    return {.d_k = h_.d_k,
            .d_v = h_.d_v,
            .group = h_.group(),
            .type_k = shape_.type_k,
            .type_v = shape_.type_v,
            .scale = h_.attention_scale,
            .rope = engine_.rope_table.rope(l),
            .softcap = h_.attention_softcap,
            .sinks = engine_.model.weights.sinks(l)};
  }

  // The order of tokens in the slots of a layer that slides; all its heads keep the same.
  void order_past(int l) {
    const auto slots = sessions_[0]->cache().order(l, 0);
    order_.resize(slots.size());
    for (std::size_t i = 0; i < slots.size(); ++i) order_[slots[i]] = (std::int32_t)i;
  }

  // What the sessions' policies ask together: the widest window serves the narrower ones.
  Measures wanted(int l, std::size_t n_entries) const {
    Measures all;
    for (const SessionImpl* s : sessions_) {
      const Measures m = asked_by(*s, l, n_entries);
      all.window = std::max(all.window, m.window);
      all.accumulated = all.accumulated || m.accumulated;
      all.key_similarity = all.key_similarity || m.key_similarity;
    }
    return all;
  }

  Engine::Parts& engine_;
  std::span<SessionImpl* const> sessions_;
  std::span<const Token> tokens_;
  const Hyperparameters& h_;
  const CacheShape& shape_;
  AttentionShape attention_shape_;
  bool rotated_;              // keys as attention reads them
  bool keeps_plain_ = false;  // beside them for some cache
  std::size_t n_past_;
  Hidden hidden_;
  std::vector<std::int32_t> positions_, fresh_index_, order_;
};

}  // namespace

bool PrefillProgress::add(double tokens) {
  done_ += tokens;
  if (!hooks_.progress) return true;
  return hooks_.progress(std::min((std::size_t)(done_ + 0.5), total_), total_);
}

bool run_segment(Engine::Parts& engine, std::span<SessionImpl* const> sessions, std::span<const Token> tokens,
                 const PrefillHooks& hooks, std::size_t first_index, PrefillProgress& progress) {
  SegmentRun run(engine, sessions, tokens);
  run.embed();
  for (int l = 0; l < engine.model.hyperparameters.n_layer; ++l) {
    if (!run.layer(l, progress)) return false;
  }
  run.logits(hooks, first_index);
  for (SessionImpl* s : sessions) {
    s->fed(tokens);
    s->reserve_lanes();
  }
  return true;
}

std::uint64_t prefill_compute_bytes(Engine::Parts& engine, const CacheShape& shape, std::size_t n_kept,
                                    std::size_t n_new) {
  const Hyperparameters& h = engine.model.hyperparameters;
  const std::size_t n = std::min(n_new, kComputeChunk);
  attention::PrefillLayer attention;
  attention.shape = {.d_k = h.d_k, .d_v = h.d_v, .group = h.group(), .type_k = shape.type_k, .type_v = shape.type_v};
  // A composition's graph holds all entries: the last chunk has the most.
  static std::byte nowhere;
  attention.past.assign((std::size_t)h.n_head_kv, {.k = &nowhere, .v = &nowhere, .n = n_kept});
  attention.k = attention.v = &nowhere;
  attention.first = n_new - n;
  PlainKeys plain{.to = &nowhere};
  LayerGraph layer(engine, 0, n, true, &attention, &plain,
                   [&](Graph& graph) { return graph.input(GGML_TYPE_F32, h.n_embd, (std::int64_t)n); });
  return engine.compute.measure(layer.graph) +
         attention::prefill_scratch_bytes(attention.shape) * (std::uint64_t)engine.compute.threads();
}

}  // namespace lacake
