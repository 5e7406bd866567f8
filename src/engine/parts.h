#pragma once

#include "attention/attention_method.h"
#include "attention/attention_op.h"
#include "engine/layer_map.h"
#include "engine/policy_time.h"
#include "engine/prefill_workspace.h"
#include "engine/rope_table.h"
#include "graph/compute.h"
#include "graph/matmul_nodes.h"
#include "lacake/engine.h"
#include "model/parts.h"

namespace lacake {

class StepGraph;
struct StepScratch;

// What an Engine is made of: what its sessions share while one of them (or one batch) runs.
struct Engine::Parts {
  Parts(const Model& m, int threads, attention::Method method)
      : model(m.parts()), attention(method), layers(model.hyperparameters), compute(threads), rope_table(model) {}

  // `batch_invariant`: as each column would be multiplied by itself.
  MatmulPlan matmuls(bool batch_invariant) const {
    return {.method = model.product,
            .threads = compute.threads(),
            .batch_invariant = batch_invariant,
            .loras = model.loras};
  }

  const Model::Parts& model;
  const attention::Method attention;
  bool any_length = false;  // positions beyond the model's training length are not refused (engine/bench.h)
  LayerMap layers;
  Compute compute;
  RopeTable rope_table;
  attention::Scratch scratch;
  Workspace workspace;
  GrowingBuffer hidden;                       // [n_embd, segment] f32
  std::vector<float> partials;                // of decode attention
  PolicyTime policy_time;                     // for benchmarks
  std::shared_ptr<StepGraph> step_graph;      // of the last step
  std::shared_ptr<StepScratch> step_scratch;  // kept, so that a token allocates nothing
};

}  // namespace lacake
