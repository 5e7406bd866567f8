#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "lacake/engine.h"

namespace lacake {

// Up to kComputeChunk tokens that go through a layer at once: of the segment itself, or of one probe.
struct PassChunk {
  std::span<const Token> tokens;
  std::size_t column = 0;        // of the hidden states, the first
  std::size_t row = 0;           // of the workspace, the first: every probe's stand right behind the segment's
  const Probe* probe = nullptr;  // null: the segment's own

  bool repeats() const { return probe && probe->first < probe->last; }
};

// How a pass goes through what it reads: the segment's chunks, then each probe's. Tokens and probes are the caller's.
class PassChunks {
 public:
  PassChunks(std::span<const Token> segment, std::span<const Probe> probes);

  std::size_t size() const { return chunks_.size(); }
  const PassChunk& operator[](std::size_t i) const { return chunks_[i]; }

  std::size_t n_columns() const { return n_columns_; }  // of the hidden states: one a token
  std::size_t n_rows() const { return n_rows_; }        // of the workspace: with those of the longest probe

  std::size_t n_probe() const { return n_probe_; }  // tokens of the probes that repeat nothing
  bool repeats() const { return repeats_; }         // some probe does

  // Policies are shown what the observed tokens attend to: those of the last probe that repeats nothing, or else the
  // segment's.
  std::size_t n_observed() const { return observed_ ? observed_->tokens.size() : n_segment_; }
  // Of the workspace's rows.
  std::size_t observed_end() const { return n_segment_ + (observed_ ? observed_->tokens.size() : 0); }
  bool is_observed(const PassChunk& chunk) const { return chunk.probe == observed_; }
  // Sums of attention are over more: over every probe that repeats nothing.
  bool is_summed(const PassChunk& chunk) const { return observed_ ? chunk.probe && !chunk.repeats() : !chunk.probe; }

 private:
  void add(std::span<const Token> tokens, std::size_t row, const Probe* probe);

  std::vector<PassChunk> chunks_;
  std::size_t n_segment_, n_columns_ = 0, n_rows_ = 0, n_probe_ = 0;
  const Probe* observed_ = nullptr;
  bool repeats_ = false;
};

}  // namespace lacake
