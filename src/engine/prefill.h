#pragma once

#include <span>

#include "engine/session.h"

namespace lacake {

// Where the work of a prefill stands, over all its segments; asks the hook from time to time.
class PrefillProgress {
 public:
  PrefillProgress(const PrefillHooks& hooks, std::size_t total) : hooks_(hooks), total_(total) {}
  // `tokens` worth of work more. False: stop.
  bool add(double tokens);

 private:
  const PrefillHooks& hooks_;
  std::size_t total_;
  double done_ = 0;
};

// Runs one segment through all layers, one layer at a time: every layer sees the whole segment over what the session
// keeps, then the policy's decision is applied. Several sessions may watch if their caches are empty and of the same
// types. `all_logits` indices start at `first_index`. False if the hook stopped it.
bool run_segment(Engine::Parts& engine, std::span<SessionImpl* const> sessions, std::span<const Token> tokens,
                 const PrefillHooks& hooks, std::size_t first_index, PrefillProgress& progress);

// Bytes of intermediate tensors, scratch and tables that segments of this size need, over so many entries of a layer.
std::uint64_t prefill_compute_bytes(Engine::Parts& engine, const CacheShape& shape, std::size_t n_kept,
                                    std::size_t n_new);

}  // namespace lacake
