#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/prefill_workspace.h"
#include "engine/session_state.h"

namespace lacake {

// What a pass needs beside its sessions; a job's passes use one after the other.
struct PrefillMemory {
  GrowingBuffer hidden;  // [n_embd, segment] f32
  PrefillWorkspace workspace;
  std::uint64_t bytes() const { return hidden.bytes() + workspace.bytes(); }
};

// What a pass reads.
struct PassOptions {
  std::span<const Token> tokens;  // kept by the caller while the pass lives
  std::span<const Probe> probes;  // likewise: read behind them, their keys and values are not kept
  std::size_t first_index = 0;    // of `all_logits`
  std::function<void(std::size_t index, std::span<const float> logits)> all_logits = {};
  bool last_logits = true;  // the sessions get the logits of the last token
  bool more_follows = false;
};

// One segment on its way through all layers, one layer at a time: every layer sees the whole segment over what the
// sessions keep, then the policies' decisions are applied. Several sessions may watch if their caches are empty and of
// the same types.
class PrefillPass {
 public:
  PrefillPass(EngineState& engine, std::span<SessionState* const> sessions, PrefillMemory& memory,
              const PassOptions& options);
  ~PrefillPass();

  // One step: the embedding of 512 tokens, one layer of 512 tokens, one layer's decisions, or the logits of 32 tokens.
  // REQUIRES: !finished(). Throws what policies throw; the sessions then hold something in between.
  void advance();
  bool finished() const;
  double work_done() const;  // tokens' worth, probe tokens included

 private:
  class Run;
  std::unique_ptr<Run> run_;
};

// Bytes of intermediate tensors, scratch and tables that segments of this size need, over so many entries of a layer.
//   sees_queries  some of what is asked for follows from them (EntryMeasures)
std::uint64_t prefill_compute_bytes(EngineState& engine, const CacheShape& shape, std::size_t n_kept, std::size_t n_new,
                                    bool sees_queries);

}  // namespace lacake
