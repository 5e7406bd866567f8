#pragma once

#include "cache/arena.h"
#include "engine/engine_state.h"
#include "engine/prefill_workspace.h"
#include "lacake/engine.h"

namespace lacake {

// Tokens that go through a layer at once. A whole segment's hidden states stand in memory, so this only bounds the
// intermediate tensors.
inline constexpr std::size_t kComputeChunk = 512;

CacheShape cache_shape(const Hyperparameters&, const CacheTypes&);

// The options with what their policy's settings follow from a share of the text: decided once, when a session is
// opened. Throws Error(kUsage) for settings that cannot be.
SessionOptions with_settings_at_opening(const EngineState&, SessionOptions options);

// Decides all sizes of a session: the policy's C from the budget, the chunk, the memory by purpose.
// Throws Error(kUsage or kCapacity) with what would fit where these options cannot run.
SessionPlan plan_session(EngineState& engine, const SessionOptions& options);

// How many tokens a repeat probe may repeat of a segment whose last token stands at position `end` - 1: the policy's
// chunk, or fewer where the model was not trained for text, chunk and the words around it together. At least 64, so
// that repeats are not mostly such words: a text that leaves no room for them is refused when it is fed.
std::size_t repeat_chunk(const EngineState&, const SessionOptions&, const Policy&, std::size_t end);

// The repeats of a text: tokens of the longest, and of all.
struct RepeatSizes {
  std::size_t longest = 0, all = 0;
};
// Of `n` tokens or fewer that are read as a conversation's first segment, where the policy wants them repeated. A later
// segment near the training length has shorter chunks, and so more words around them.
RepeatSizes repeat_sizes(const EngineState&, const SessionOptions&, const Policy&, std::size_t n);

// What one layer of a segment needs when `n_kept` entries are there before it, with the longest of its repeats.
WorkspaceShape workspace_shape(const EngineState&, const CacheShape&, const Policy&, std::size_t n_kept,
                               std::size_t n_new, std::size_t n_repeat);

// Of it, what is taken of the segment's inputs: learned scores, the columns themselves.
inline std::uint64_t input_bytes(bool learned, bool inputs, std::size_t n_new, const Hyperparameters& h) {
  return (std::uint64_t)n_new * (std::uint64_t)((learned ? h.n_head_kv : 0) + (inputs ? h.n_embd : 0)) * sizeof(float);
}

}  // namespace lacake
