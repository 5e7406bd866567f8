#include "engine/pass_chunks.h"

#include <algorithm>

#include "engine/plan.h"

namespace lacake {

PassChunks::PassChunks(std::span<const Token> segment, std::span<const Probe> probes) : n_segment_(segment.size()) {
  add(segment, 0, nullptr);
  for (const Probe& probe : probes) {
    add(probe.tokens, n_segment_, &probe);
    if (chunks_.back().repeats()) {
      repeats_ = true;
    } else {
      n_probe_ += probe.tokens.size();
      observed_ = &probe;
    }
  }
}

void PassChunks::add(std::span<const Token> tokens, std::size_t row, const Probe* probe) {
  for (std::size_t from = 0; from < tokens.size(); from += kComputeChunk) {
    const std::size_t n = std::min(kComputeChunk, tokens.size() - from);
    chunks_.push_back({tokens.subspan(from, n), n_columns_, row + from, probe});
    n_columns_ += n;
  }
  n_rows_ = std::max(n_rows_, row + tokens.size());
}

}  // namespace lacake
