#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "lacake/policy_author.h"
#include "policies/layer_budgets.h"

namespace lacake {

const PolicyType& cake_policy();

namespace cake {

struct Settings {
  std::size_t cache_size = 0;  // C: entries a layer, on average over layers, window included
  std::size_t window = 32;     // W < C
  double gamma = 200;
  double tau1 = 1;
  double tau2 = 1;
  double decay = 0.9;                          // of an entry's old score, at every further segment
  bool cascade = true;                         // false: all layers are cut after the last one only
  bool uniform = false;                        // all layers alike, whatever their attention looks like
  double evict_fraction = 0;                   // share of its entries that a full layer drops at once in decoding
  bool by_score = true;                        // stored order by falling score; false: the conversation's
  Positions positions = Positions::kOriginal;  // REQUIRES: kOriginal unless by_score is false
};

// Stored order of a layer that was cut, per KV head, and what is known of it:
//
//     | by falling score ............ | last W, in order |     then decoded tokens, until the next cut
//     | scores[h] ................... | (none yet: 0)    |
//
// Without Settings::by_score the first part is in order too.
class Cake final : public Policy {
 public:
  Cake(const Settings&, const AttentionShape&);

  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase, int layer, std::size_t n_entries, std::size_t n_new) const override;
  void update(const Observation&, CacheEdits&) override;
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override;
  std::size_t reserve(int layer, int head) const override;
  void resize(std::size_t cache_size, CacheEdits&) override;
  std::unique_ptr<Policy> clone() const override;
  void visit(PolicyFields& state) override;
  std::size_t metadata_bytes() const override;

  // Entries that a layer may hold beside its window.
  std::size_t budget(int layer) const { return layers_[(std::size_t)layer].budget; }
  // Of the last segment that cut the cache; 1 before any did.
  float preference(int layer) const { return preferences_.of((std::size_t)layer); }

 private:
  struct Layer {
    std::size_t length = 0;      // entries held now
    std::size_t candidates = 0;  // entries beside the window when the budget was last divided: its cap
    std::size_t budget = 0;
    bool ranked = true;  // false: scored in this segment, not yet put in order
    std::vector<std::vector<float>>
        scores;  // [n_head_kv][<= length], 0 beyond and where none is known; empty: never scored
  };

  bool cuts_prompt(std::size_t n_new) const;
  bool cuts_decode(std::size_t layer, std::size_t n_entries) const;
  void score(const Observation&);
  void divide(std::size_t last_seen, CacheEdits&);
  void shrink(std::size_t layer, CacheEdits&);
  void shrink_between_segments(std::size_t layer, CacheEdits&);
  std::vector<std::uint32_t> best(std::span<const float> scores, std::size_t count) const;
  void cut_decode(const Observation&, CacheEdits&);

  Settings settings_;
  AttentionShape shape_;
  PolicyTraits traits_;
  std::vector<Layer> layers_;
  Preferences preferences_;
  std::size_t n_fed_ = 0;  // tokens of all finished segments, kept or not
};

}  // namespace cake
}  // namespace lacake
