#include "engine/bench.h"

#include "attention/attention.h"
#include "cpu/target.h"
#include "engine/parts.h"
#include "engine/plan.h"

namespace lacake {

void allow_any_length(Engine& engine) { engine.parts().any_length = true; }

std::uint64_t weight_bytes_per_step(Engine& engine) {
  const GgufFile& file = engine.parts().model.file;
  const bool tied = file.tensor("output.weight") == nullptr;
  std::uint64_t bytes = 0;
  for (const std::string& name : file.tensor_names()) {
    const ggml_tensor* tensor = file.tensor(name);
    const bool one_row = name == "token_embd.weight" && !tied;
    bytes += one_row ? ggml_row_size(tensor->type, tensor->ne[0]) : ggml_nbytes(tensor);
  }
  return bytes;
}

double policy_seconds(Engine& engine) { return engine.parts().policy_time.seconds(); }

AttentionInUse attention_in_use(Engine& engine, const CacheTypes& types) {
  const attention::Method method = engine.parts().attention;
  if (method == attention::Method::kGgml) return {"ggml", "ggml"};
  const CacheShape shape = cache_shape(engine.parts().model.hyperparameters, types);
  return {cpu::target_name(), attention::name(attention::arithmetic_of(method, shape.type_k, shape.type_v))};
}

}  // namespace lacake
