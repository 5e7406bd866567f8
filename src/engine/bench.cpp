#include "engine/bench.h"

#include "engine/engine_state.h"
#include "engine/plan.h"

namespace lacake {

void allow_any_length(Engine& engine) { engine.state().any_length = true; }

std::uint64_t weight_bytes_per_step(Engine& engine) {
  const GgufFile& file = engine.state().model.file;
  const bool tied = file.tensor("output.weight") == nullptr;
  std::uint64_t bytes = 0;
  for (const std::string& name : file.tensor_names()) {
    const ggml_tensor* tensor = file.tensor(name);
    const bool one_row = name == "token_embd.weight" && !tied;
    bytes += one_row ? ggml_row_size(tensor->type, tensor->ne[0]) : ggml_nbytes(tensor);
  }
  return bytes;
}

double policy_seconds(Engine& engine) { return engine.state().policy_time.seconds(); }

AttentionInUse attention_in_use(Engine& engine, const CacheTypes& types) {
  const CacheShape shape = cache_shape(engine.state().model.hyperparameters, types);
  const AttentionNodes::InUse used = engine.state().place.attention().in_use(shape.type_k, shape.type_v);
  return {used.instruction_set, used.arithmetic};
}

}  // namespace lacake
