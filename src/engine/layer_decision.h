#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "attention/attention.h"
#include "cache/cache.h"
#include "engine/engine_state.h"
#include "engine/layer_record.h"
#include "engine/session_state.h"

namespace lacake {

// A layer that all of a segment has gone through, before anything of it is in a cache.
struct PassedLayer {
  int index = 0;            // as the cache counts
  std::size_t n_past = 0;   // tokens of the conversation before the segment
  std::size_t n_probe = 0;  // tokens of observed probes
  bool more_follows = false;
  attention::Shape shape;                     // as attention read it
  SegmentRows attended;                       // the segment's rows, as attention read them
  SegmentRows plain;                          // the same with keys as they were projected, for caches that keep them so
  bool rotates_kept = false;                  // keys that a cache holds are rotated when they are read
  const std::int32_t* fresh_index = nullptr;  // likewise the segment's; null: they lie rotated
  std::int64_t first_position = 0;            // of the segment's tokens
};

// What ends a layer: what the sessions' policies asked for is measured, each is shown it, and what they decide is
// applied to their caches. All of it on the engine's threads. Throws what policies throw.
//   record  what the layer's chunks left
void decide_layer(EngineState& engine, std::span<SessionState* const> sessions, const PassedLayer& layer,
                  LayerRecord& record);

}  // namespace lacake
