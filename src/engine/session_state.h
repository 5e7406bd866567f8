#pragma once

#include <memory>
#include <vector>

#include "cache/cache.h"
#include "engine/engine_state.h"
#include "engine/observe.h"
#include "engine/plan.h"
#include "lacake/engine.h"

namespace lacake {

// What a session was at one moment, to go back to (a job that is dropped).
struct SessionCopy {
  std::unique_ptr<Policy> policy;
  CacheCopy cache;
  std::size_t n_tokens = 0;
  std::vector<float> logits;
  std::uint64_t bytes() const {
    return cache.bytes() + (policy ? policy->metadata_bytes() : 0) + logits.size() * sizeof(float);
  }
};

// What a Session is made of: tokens, cache, policy. Prefill and decode work on its parts, for one session or several.
class SessionState {
 public:
  SessionState(EngineState& engine, const SessionOptions& options);

  EngineState& engine() const { return engine_; }
  const SessionOptions& options() const { return options_; }
  const SessionPlan& plan() const { return plan_; }
  Policy& policy() { return *policy_; }
  const Policy& policy() const { return *policy_; }
  Cache& cache() { return cache_; }
  const Cache& cache() const { return cache_; }
  Observer& observer(int thread = 0) { return observers_[(std::size_t)thread]; }
  std::vector<float>& logits() { return logits_; }
  std::vector<float>& rows() { return rows_; }
  const std::vector<float>& logits() const { return logits_; }
  const std::vector<Token>& tokens() const { return tokens_; }
  std::size_t n_past() const { return tokens_.size(); }
  bool cache_index() const { return policy_->traits().positions == Positions::kCompacted; }
  // Of all heads' keys of a layer as its cache has them.
  attention::KeyForm key_form(int layer) const {
    return cache_index() ? engine_.key_forms.plain(layer) : engine_.key_forms.attended(layer);
  }
  // Whether keys are stored without what all of some layer have in common.
  bool centers_keys() const;
  void fed(std::span<const Token> tokens) { tokens_.insert(tokens_.end(), tokens.begin(), tokens.end()); }

  SessionStatus status() const { return status_; }
  // Who reads into it while the status is kReading.
  PrefillJob::State* job() const { return job_; }
  void begin_reading(PrefillJob::State& job) { status_ = SessionStatus::kReading, job_ = &job; }
  void end_reading() { status_ = SessionStatus::kReady, job_ = nullptr; }
  void fail() { status_ = SessionStatus::kFailed; }

  void check_ready() const;  // throws Error(kState) if the status is another
  // As Session::repeat_chunk.
  std::size_t repeat_chunk(std::size_t n_new) const;
  // Throws Error if this token, or this segment, cannot be fed, before anything runs.
  void check_step(Token token) const;
  void check_segment(std::span<const Token> tokens, const PrefillOptions& options) const;
  // As Session::require_room: the part of check_segment that depends on lengths alone, not on which entries are held.
  void require_room(std::size_t n_held, std::size_t n_new) const;
  // Gives every lane the capacity that the policy reserves from here on.
  void reserve_lanes();

  // A policy that keeps everything only appends, and what it appended can be cut off again. Layers that slide do lose
  // entries whatever the policy.
  bool loses(int layer) const { return options_.policy.type->bounded || engine_.layers.slides(layer); }

  // As when it was made.
  void clear();
  // What another session was fed, and what its last token foretold. REQUIRES: nothing was fed.
  void load(std::vector<Token> tokens, std::vector<float> logits) {
    tokens_ = std::move(tokens), logits_ = std::move(logits);
  }

  SessionCopy copy() const;
  std::uint64_t copy_bytes() const;  // of what copy() returns
  SessionCopy copy_all() const;      // with every row, for other sessions of the same options too
  void restore(const SessionCopy& copy);
  // The same as another session of this engine. REQUIRES: this one was made with the other's options, and fed nothing.
  void assign(const SessionState& other);

  // Moments to go back to (Session::checkpoint): a number for each, which counts as long as the moment can be returned
  // to. A copy leaves out rows of entries that are never evicted, so what is later than a moment that was returned to
  // is lost, and everything when the arena changes its size.
  std::uint64_t mark();
  bool marked(std::uint64_t mark) const;
  void forget_marks_behind(std::size_t n_tokens);
  // See Session::resize.
  void resize(const Budget& budget);
  CacheUse use() const;

 private:
  std::size_t first_position() const;  // of the next segment
  void check_tokens(std::span<const Token> tokens) const;
  std::unique_ptr<Policy> make_policy() const;
  bool has_room() const;  // for one token, in the layers that the policy decides about

  EngineState& engine_;
  SessionOptions options_;
  SessionPlan plan_;
  std::unique_ptr<Policy> policy_;
  Cache cache_;
  std::vector<Token> tokens_;
  std::vector<float> logits_;
  std::vector<Observer> observers_;  // one a thread
  std::vector<float> rows_;          // recorded rows of a running step, all layers
  struct Mark {
    std::uint64_t number;
    std::size_t n_tokens;
  };
  std::vector<Mark> marks_;
  std::uint64_t n_marks_ = 0;
  SessionStatus status_ = SessionStatus::kReady;
  PrefillJob::State* job_ = nullptr;
};

}  // namespace lacake
