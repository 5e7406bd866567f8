#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "attention/node_data.h"
#include "cache/arena.h"
#include "cache/kv_pool.h"
#include "engine/key_forms.h"
#include "engine/layer_map.h"
#include "engine/output_grams.h"
#include "engine/policy_time.h"
#include "engine/rope_table.h"
#include "graph/matmul_nodes.h"
#include "lacake/engine.h"
#include "model/loaded_model.h"
#include "place/host_place.h"
#include "place/workers.h"

namespace lacake {

class StepGraph;
struct StepScratch;

// What an Engine is made of: what its sessions share while one of them, one batch or one step of a job runs. Whatever
// lasts longer belongs to a session or a job.
class EngineState {
 public:
  EngineState(const Model& m, int threads, attention::Method method, std::uint64_t kv_memory)
      : model(m.loaded()),
        layers(model.hyperparameters, model.facts.attention.calibration),
        place(threads, method),
        workers(place),
        kv_pool(place, place.buffer_type(), kv_memory),
        rope_table(model),
        output_grams(model.hyperparameters),
        key_forms(model) {}

  // `batch_invariant`: a column's products are the bits that it would get alone.
  MatmulPlan matmuls(bool batch_invariant) const {
    return {
        .method = model.product, .threads = place.threads(), .batch_invariant = batch_invariant, .loras = model.loras};
  }
  // How this layer's queries meet rows of these types.
  attention::Shape attention_shape(int layer, const CacheShape& stored) const {
    const Hyperparameters& h = model.hyperparameters;
    return {.d_k = h.d_k,
            .d_v = h.d_v,
            .group = h.group(),
            .type_k = stored.type_k,
            .type_v = stored.type_v,
            .scale = h.attention_scale,
            .rope = rope_table.rope(layer),
            .softcap = h.attention_softcap,
            .sinks = model.weights.sinks(layer),
            .key_form = key_forms.attended(layer)};
  }
  // The map that this layer's entries are scored with; null: there is none.
  const LearnedLayer* learned(int layer) const {
    return model.calibration && model.calibration->layers[(std::size_t)layer]
               ? &*model.calibration->layers[(std::size_t)layer]
               : nullptr;
  }
  bool owns(const Session* session) const {
    return std::find(sessions.begin(), sessions.end(), session) != sessions.end();
  }

  const LoadedModel& model;
  bool any_length = false;  // positions beyond the model's training length are not refused (engine/bench.h)
  LayerMap layers;
  HostPlace place;
  Workers workers;
  KvPool kv_pool;
  std::vector<const Session*> sessions;  // that are open
  RopeTable rope_table;
  OutputGrams output_grams;
  KeyForms key_forms;                         // once a session's keys have few bits
  attention::Scratch scratch;                 // of the threads of a running graph
  std::vector<float> partials;                // of decode attention
  PolicyTime policy_time;                     // for benchmarks
  std::shared_ptr<StepGraph> step_graph;      // of the last step
  std::shared_ptr<StepScratch> step_scratch;  // kept, so that a token allocates nothing
};

}  // namespace lacake
