#pragma once

#include <cstdint>
#include <string>

#include "lacake/engine.h"

// What a benchmark asks of an engine and nobody else does.
namespace lacake {

// From here on no session of this engine is refused for positions beyond the model's training length: what comes out
// then is noise, what it costs is not.
void allow_any_length(Engine& engine);

// Bytes of weights that one step reads, as the file stores them: every tensor once, of an embedding that is not the
// output matrix too one row.
std::uint64_t weight_bytes_per_step(Engine& engine);

// Seconds since the engine was made in which policies were at work (engine/policy_time.h).
double policy_seconds(Engine& engine);

// What attends: the kernels' instruction set, e.g. "AVX3", and what a prompt is multiplied in; "ggml" for both where it
// does.
struct AttentionInUse {
  std::string target;
  std::string arithmetic;
};
AttentionInUse attention_in_use(Engine& engine, const CacheTypes& types);

}  // namespace lacake
