#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lacake/engine.h"

// A cache filled with made-up entries, as if a long prompt had been read: for benchmarks of lengths whose prefill would
// take hours. What is made up is what attention and policies get to see; what they do with it is real.
namespace lacake {

// K and V of a short real prompt, by layer and head, from which entries are drawn:
//
//     entry = mean + 0.9 (row i - mean) + 0.44 (row j - mean)        i, j by chance, anew for each token and head
//
// so made-up rows have the mean and the covariance of the real ones (0.9^2 + 0.44^2 = 1) and are as peaked, yet no two
// are alike. The first tokens, whose keys are unlike all others because every query looks at them, are no part of it.
class EntrySample {
 public:
  // REQUIRES: `session` was fed more than kFirst tokens, keeps all of them (policy full) by cache index
  // (positions=compacted: keys unrotated), and stores f32.
  explicit EntrySample(const Session& session);

  static constexpr std::size_t kFirst = 4;

  std::uint64_t bytes() const;
  // What the token at this position of an endless conversation is: the sample's own tokens, over and over.
  Token token(std::size_t position) const { return tokens_[position % tokens_.size()]; }

  // One unrotated entry: the sample's own where it reaches, then drawn. The same arguments give the same rows.
  //   k  [d_k], v  [d_v] f32
  void entry(int layer, int head, std::size_t position, float* k, float* v) const;

 private:
  struct Lane {
    std::vector<float> mean;        // [d_k + d_v]
    std::vector<float> deviations;  // [d_k + d_v, n_tokens]
  };
  std::size_t d_k_ = 0;
  std::size_t d_v_ = 0;
  int n_head_kv_ = 0;
  std::vector<Token> tokens_;
  std::vector<Lane> lanes_;
};

// Feeds a session `n_tokens` made-up tokens, in the segments in which its prefill mode would feed real ones. Its policy
// is shown what it asks for in every segment: attention with heavy tails, a sink and a bias to what is recent; keys as
// they are. There are no logits until the next step. Costs what it takes to write the cache, and for an exact prefill
// the workspace of one layer. False if the progress hook stopped it: unlike a real
// prefill it takes nothing back, and the session can only be closed.
// Throws what Session::prefill throws. REQUIRES: n_tokens > 0
bool fill_synthetic(Engine& engine, Session& session, const EntrySample& sample, std::size_t n_tokens,
                    const PrefillOptions& options = {});

}  // namespace lacake
