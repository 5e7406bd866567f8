#include "engine/layer_decision.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "attention/expected.h"
#include "engine/deferred_edits.h"
#include "engine/entry_measures.h"
#include "engine/output_grams.h"
#include "engine/rope_table.h"

namespace lacake {
namespace {

class Decision {
 public:
  Decision(EngineState& engine, std::span<SessionState* const> sessions, const PassedLayer& layer, LayerRecord& record)
      : engine_(engine), sessions_(sessions), layer_(layer), record_(record) {}

  // Sessions know nothing of each other: first what each kind of them asked for is measured, then each decides about
  // its own cache.
  void make() {
    const PolicyTime::Running timed(engine_.policy_time);
    const bool slides = engine_.layers.slides(layer_.index);
    find_views();
    if (!slides) {
      measure_entries();
      observe();
    }
    std::vector<DeferredEdits> edits;
    for (SessionState* s : sessions_) edits.emplace_back(s->cache(), engine_.layers, layer_.index, n_new());
    engine_.workers.each(sessions_.size(), [&](std::size_t i, int) {
      if (slides) {
        const std::size_t n_entries = sessions_[i]->cache().length(layer_.index) + n_new();
        edits[i].keep_newest(n_entries, sessions_[i]->plan().sliding_entries);
      } else {
        sessions_[i]->policy().update(*views_[view_of_[i]].seen, edits[i]);
      }
    });
    apply(edits);
  }

 private:
  // What some of the sessions are shown: those whose caches are empty see the same if they ask for the same.
  struct View {
    Measures asked;
    SegmentRows fresh;  // in the form that they store
    SessionState* first;
    const Observation* seen = nullptr;
  };

  std::size_t n_new() const { return layer_.attended.n; }

  void find_views() {
    for (std::size_t i = 0; i < sessions_.size(); ++i) {
      SessionState* s = sessions_[i];
      const SegmentRows& fresh = s->cache_index() ? layer_.plain : layer_.attended;
      const Measures& asked = record_.asked_by(i);
      const auto same = [&](const View& other) { return other.asked == asked && other.fresh.k == fresh.k; };
      const auto it = std::find_if(views_.begin(), views_.end(), same);
      view_of_.push_back((std::size_t)(it - views_.begin()));
      if (it == views_.end()) views_.push_back({.asked = asked, .fresh = fresh, .first = s});
    }
  }

  // Keys count as attention read them; where several sessions watch, they hold nothing from before.
  void measure_entries() {
    const Hyperparameters& h = engine_.model.hyperparameters;
    std::vector<float> mean;
    const auto turn = [&](int positions) -> attention::Rope {
      const int kind = h.layers[(std::size_t)layer_.index].rope;
      if (kind == kNoRope) return {};
      const auto n_rot = (std::size_t)h.n_rot;
      std::vector<float> table((std::size_t)positions * n_rot);
      make_rotations(engine_.place, engine_.model, kind, (std::size_t)layer_.first_position + n_new(),
                     (std::size_t)positions, table.data());
      mean.resize(n_rot);
      attention::mean_rotation(table, n_rot, mean);
      return {.table = mean.data(), .n_rot = h.n_rot, .neox = h.rope_mode == GGML_ROPE_TYPE_NEOX};
    };
    const EntryMeasures::Layer layer{.layer = layer_.index,
                                     .cache = &sessions_[0]->cache(),
                                     .shape = layer_.shape,
                                     .fresh = layer_.attended,
                                     .fresh_index = layer_.fresh_index,
                                     .rotates_past = layer_.rotates_kept,
                                     .recording = record_.recording(),
                                     .n_probe = layer_.n_probe};
    const auto output = [&] { return output_projection(engine_.model, layer_.index); };
    record_.entries().measure(layer, turn, output, engine_.output_grams, engine_.workers, engine_.scratch);
  }

  // A single view has all threads, several have one each.
  void observe() {
    const auto show = [&](View& view, Workers* workers) {
      view.seen = &view.first->observer().observe(view.asked, view.first->cache(), visit(view, workers));
    };
    if (views_.size() == 1) return show(views_[0], &engine_.workers);
    engine_.workers.each(views_.size(), [&](std::size_t i, int) { show(views_[i], nullptr); });
  }

  LayerVisit visit(const View& view, Workers* workers) const {
    return {.phase = Phase::kPrefill,
            .layer = layer_.index,
            .policy_layer = engine_.layers.policy_layer(layer_.index),
            .n_head = engine_.model.hyperparameters.n_head,
            .n_new = n_new(),
            .n_past = (std::int64_t)layer_.n_past,
            .n_probe = layer_.n_probe,
            .more_follows = layer_.more_follows,
            .recording = record_.recording(),
            .learned = record_.scores(),
            .inputs = record_.inputs(),
            .fresh = view.fresh,
            .entries = &record_.entries(),
            .key_form = view.first->key_form(layer_.index),
            .workers = workers};
  }

  // A cascade shrinks many layers at once, also where one session has all threads.
  void apply(std::span<const DeferredEdits> edits) const {
    std::vector<std::pair<std::size_t, std::size_t>> elsewhere;  // session, its decision
    for (std::size_t i = 0; i < edits.size(); ++i) {
      for (std::size_t j = 0; j < edits[i].n_elsewhere(); ++j) elsewhere.emplace_back(i, j);
    }
    engine_.workers.each(elsewhere.size(), [&](std::size_t i, int) {
      const auto [session, decision] = elsewhere[i];
      edits[session].apply_elsewhere(sessions_[session]->cache(), decision);
    });
    engine_.workers.each(sessions_.size(), [&](std::size_t i, int) {
      edits[i].apply_own(sessions_[i]->cache(), views_[view_of_[i]].fresh);
    });
  }

  EngineState& engine_;
  std::span<SessionState* const> sessions_;
  const PassedLayer& layer_;
  LayerRecord& record_;
  std::vector<View> views_;
  std::vector<std::size_t> view_of_;  // by session
};

}  // namespace

void decide_layer(EngineState& engine, std::span<SessionState* const> sessions, const PassedLayer& layer,
                  LayerRecord& record) {
  Decision(engine, sessions, layer, record).make();
}

}  // namespace lacake
