#pragma once

#include <memory>
#include <vector>

#include "cache/cache.h"
#include "engine/observe.h"
#include "engine/parts.h"
#include "engine/plan.h"
#include "lacake/engine.h"

namespace lacake {

// One conversation. Prefill and decode (prefill.cpp, decode.cpp) work on its parts, for one session or several.
class SessionImpl final : public Session {
 public:
  SessionImpl(Engine& engine, const SessionOptions& options);

  bool prefill(std::span<const Token> tokens, const PrefillHooks& hooks) override;
  void step(Token token) override;
  std::span<const float> logits() const override { return logits_; }
  const std::vector<Token>& tokens() const override { return tokens_; }
  const SessionPlan& plan() const override { return plan_; }
  CacheUse use() const override;
  std::vector<std::int64_t> kept(int layer, int head) const override;
  const Policy& policy() const override { return *policy_; }

  const SessionOptions& options() const { return options_; }
  Policy& policy() { return *policy_; }
  Cache& cache() { return cache_; }
  const Cache& cache() const { return cache_; }
  Observer& observer(int thread = 0) { return observers_[(std::size_t)thread]; }
  std::vector<float>& logits_buffer() { return logits_; }
  std::vector<float>& rows() { return rows_; }
  std::size_t n_past() const { return tokens_.size(); }
  bool has_room() const;  // for one token, in the layers that the policy decides about
  bool cache_index() const { return policy_->traits().positions == Positions::kCacheIndex; }
  void fed(std::span<const Token> tokens) { tokens_.insert(tokens_.end(), tokens.begin(), tokens.end()); }

  // Throws Error if this many more tokens cannot be fed at once, before anything runs.
  void check_segment(std::size_t n_tokens) const;
  // Gives every lane the capacity that the policy reserves from here on.
  void reserve_lanes();

 private:
  Engine& engine_;
  SessionOptions options_;
  SessionPlan plan_;
  std::unique_ptr<Policy> policy_;
  Cache cache_;
  std::vector<Token> tokens_;
  std::vector<float> logits_;
  std::vector<Observer> observers_;  // one a thread
  std::vector<float> rows_;          // recorded rows of a running step, all layers
};

}  // namespace lacake
