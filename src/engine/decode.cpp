#include "engine/decode.h"

#include <algorithm>
#include <functional>

#include "engine/immediate_edits.h"
#include "engine/step_graph.h"

namespace lacake {
namespace {

// One session's part of a step.
struct Column {
  SessionState* session = nullptr;
  Token token = 0;
  std::int64_t n_past = 0;
  std::vector<Measures> asked;        // by layer
  bool learned = false;               // asked of some layer
  std::vector<std::size_t> recorded;  // by layer: where its rows begin in session->rows()

  bool records(int layer) const {
    const Measures& m = asked[(std::size_t)layer];
    return m.window > 0 || m.accumulated;
  }
  float* rows(int layer) const { return session->rows().data() + recorded[(std::size_t)layer]; }
};

}  // namespace

struct StepScratch {
  std::vector<Column> columns;  // as many as the largest step had
  std::vector<std::int32_t> numbers;
};

namespace {

class StepRun {
 public:
  StepRun(EngineState& engine, std::span<const Engine::Next> batch)
      : engine_(engine), h_(engine.model.hyperparameters), scratch_(scratch_of(engine)) {
    std::vector<Column>& columns = scratch_.columns;
    if (columns.size() < batch.size()) columns.resize(batch.size());
    columns_ = std::span(columns).first(batch.size());
    // Sessions that store rotated keys come first, so that their columns lie together.
    std::size_t n = 0;
    for (const bool cache_index : {false, true}) {
      for (const Engine::Next& next : batch) {
        SessionState* session = &next.session->state();
        if (session->cache_index() != cache_index) continue;
        columns_[n].session = session;
        columns_[n++].token = next.token;
      }
      if (!cache_index) n_rotated_ = n;
    }
    for (Column& c : columns_) ask(c);
    const auto learns = [](const Column& c) { return c.learned; };
    const bool learned = std::any_of(columns_.begin(), columns_.end(), learns);
    graph_ = &StepGraph::of(engine, columns_.size(), n_rotated_, learned);
  }

  // Everything from here on changes the sessions.
  void begin() {
    for (Column& c : columns_) append(c);
    describe_attention();
    graph_->make_ready(engine_);
  }

  void compute() {
    const std::size_t n_vocab = (std::size_t)h_.n_vocab;
    graph_->set_tokens(of_each([](const Column& c) { return (std::int32_t)c.token; }));
    for (int l = 0; l < h_.n_layer; ++l) {
      graph_->set_positions(l, of_each([&](const Column& c) { return position(c, l); }));
    }
    engine_.place.run(graph_->graph());
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      std::vector<float>& logits = columns_[i].session->logits();
      logits.resize(n_vocab);
      ggml_backend_tensor_get(graph_->logits(), logits.data(), i * n_vocab * sizeof(float), n_vocab * sizeof(float));
    }
  }

  // Shows each policy what it asked for, and makes the room that it decides on.
  void compact() {
    const PolicyTime::Running timed(engine_.policy_time);
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const Column& c = columns_[i];
      SessionState& s = *c.session;
      ImmediateEdits edits(s.cache(), engine_.layers);
      const auto update = [&](std::size_t policy_layer, int thread) {
        const int l = engine_.layers.model_layers()[policy_layer];
        const Measures& asked = c.asked[(std::size_t)l];
        const LayerVisit visit{.phase = Phase::kDecode,
                               .layer = l,
                               .policy_layer = (int)policy_layer,
                               .n_head = h_.n_head,
                               .n_new = 1,
                               .n_past = c.n_past,
                               .recording = {.probabilities = asked.window > 0 ? c.rows(l) : nullptr,
                                             .n_rows = 1,
                                             .sums = asked.accumulated ? c.rows(l) : nullptr,
                                             .stride = s.cache().length(l),
                                             .group_mean = asked.group_mean},
                               .learned = graph_->learned(l, i),
                               .key_form = s.key_form(l)};
        s.policy().update(s.observer(thread).observe(asked, s.cache(), visit), edits);
      };
      const std::size_t n_layers = engine_.layers.model_layers().size();
      if (s.policy().traits().layers_independent) {
        engine_.workers.each(n_layers, std::cref(update));  // by reference: a copy would allocate
      } else {
        for (std::size_t l = 0; l < n_layers; ++l) update(l, 0);
      }
      s.fed({&c.token, 1});
    }
  }

 private:
  // Asks what the policy wants to see and gets memory for it. Changes nothing of the session, so it may throw.
  void ask(Column& c) {
    SessionState& s = *c.session;
    c.n_past = (std::int64_t)s.n_past();
    std::size_t floats = 0, most = 0;
    c.asked.clear();
    c.recorded.clear();
    c.learned = false;
    for (int l = 0; l < h_.n_layer; ++l) {
      const bool slides = engine_.layers.slides(l);
      const std::size_t n_kept = s.cache().length(l);
      const std::size_t n_entries = slides ? std::min(n_kept + 1, s.plan().sliding_entries) : n_kept + 1;
      c.asked.push_back(slides ? Measures{}
                               : s.policy().measures(Phase::kDecode, engine_.layers.policy_layer(l), n_entries, 1));
      c.learned = c.learned || (c.asked.back().learned && engine_.learned(l));
      c.recorded.push_back(floats);
      if (c.records(l)) floats += n_entries * (std::size_t)h_.n_head;
      most = std::max(most, n_entries);
    }
    if (s.rows().size() < floats) s.rows().resize(floats);
    if (s.cache_index()) engine_.rope_table.extend(engine_.place, most);
  }

  // Makes room for the new token. A layer that slides drops its oldest first: it holds what the new token sees.
  void append(Column& c) {
    SessionState& s = *c.session;
    for (int l = 0; l < h_.n_layer; ++l) {
      constexpr std::uint32_t kOldest = 0;
      if (engine_.layers.slides(l) && s.cache().length(l) == s.plan().sliding_entries) s.cache().drop(l, {&kOldest, 1});
    }
    s.cache().append(c.n_past);
  }

  void describe_attention() {
    const CacheShape& first = columns_[0].session->cache().arena().shape();
    std::size_t partials = 0;
    for (int l = 0; l < h_.n_layer; ++l) {
      attention::DecodeLayer& layer = graph_->attention()[(std::size_t)l];
      layer.lanes.clear();
      layer.n_head_kv = h_.n_head_kv;
      layer.n_rotated = n_rotated_;
      layer.partials = &engine_.partials;
      layer.scratch = &engine_.scratch;
      layer.shape = engine_.attention_shape(l, first);
      layer.plain_form = engine_.key_forms.plain(l);
      for (const Column& c : columns_) add_lanes(c, l, layer);
      partials = std::max(partials, layer.cut());
    }
    if (engine_.partials.size() < partials) engine_.partials.resize(partials);
    engine_.scratch.reserve(engine_.place.threads(), attention::decode_scratch_bytes(graph_->attention()[0].shape));
  }

  void add_lanes(const Column& c, int l, attention::DecodeLayer& layer) const {
    const Cache& cache = c.session->cache();
    const std::size_t n_entries = cache.length(l), group = (std::size_t)h_.group();
    const CacheShape& stored = cache.arena().shape();
    const attention::Arithmetic arithmetic = engine_.place.attention().arithmetic(stored.type_k, stored.type_v);
    for (int head = 0; head < h_.n_head_kv; ++head) {
      attention::DecodeLayer::Lane lane{.rows = cache.rows(l, head),
                                        .type_k = stored.type_k,
                                        .type_v = stored.type_v,
                                        .arithmetic = arithmetic,
                                        .new_k = cache.new_k(l, head),
                                        .new_v = cache.new_v(l, head)};
      if (h_.layers[(std::size_t)l].rope == kNoRope) lane.rows.rope_index = nullptr;
      if (c.records(l)) {
        lane.probabilities = c.rows(l) + (std::size_t)head * group * n_entries;
        lane.probabilities_stride = n_entries;
        lane.group_mean = c.asked[(std::size_t)l].group_mean;
        // Heads that hold less than the longest end in zeros.
        for (std::size_t g = 0; g < group && lane.rows.n < n_entries; ++g) {
          std::fill_n(lane.probabilities + g * n_entries + lane.rows.n, n_entries - lane.rows.n, 0.0f);
        }
      }
      layer.lanes.push_back(lane);
    }
  }

  // number(column) of all columns; until the next call.
  template <class Number>
  std::span<const std::int32_t> of_each(const Number& number) {
    scratch_.numbers.resize(columns_.size());
    std::transform(columns_.begin(), columns_.end(), scratch_.numbers.begin(), number);
    return scratch_.numbers;
  }

  std::int32_t position(const Column& c, int l) const {
    const SessionState& s = *c.session;
    if (!s.cache_index()) return (std::int32_t)c.n_past;
    const std::size_t n_kept = s.cache().length(l) - 1;
    if (engine_.layers.slides(l)) return (std::int32_t)n_kept;
    return (std::int32_t)((std::int64_t)n_kept + c.asked[(std::size_t)l].query_shift);
  }

  static StepScratch& scratch_of(EngineState& engine) {
    if (!engine.step_scratch) engine.step_scratch = std::make_shared<StepScratch>();
    return *engine.step_scratch;
  }

  EngineState& engine_;
  const Hyperparameters& h_;
  StepScratch& scratch_;
  std::span<Column> columns_;
  std::size_t n_rotated_ = 0;
  StepGraph* graph_ = nullptr;
};

}  // namespace

void run_step(EngineState& engine, std::span<const Engine::Next> batch) {
  StepRun run(engine, batch);
  try {
    run.begin();
    run.compute();
    run.compact();
  } catch (...) {
    for (const Engine::Next& next : batch) next.session->state().fail();
    throw;
  }
}

std::uint64_t decode_compute_bytes(EngineState& engine, const CacheShape& shape, std::size_t n_entries) {
  StepGraph step(engine, 1, 1, /*learned*/ false);
  static std::byte nowhere;
  const auto n_head_kv = (std::size_t)engine.model.hyperparameters.n_head_kv;
  for (attention::DecodeLayer& layer : step.attention()) {
    layer.n_rotated = 1;
    layer.n_head_kv = (int)n_head_kv;
    layer.lanes.assign(n_head_kv, {.rows = {.k = &nowhere, .v = &nowhere, .n = n_entries},
                                   .type_k = shape.type_k,
                                   .type_v = shape.type_v,
                                   .new_k = &nowhere,
                                   .new_v = &nowhere});
  }
  step.build(engine);
  return engine.place.measure(step.graph());
}

}  // namespace lacake
