#pragma once

// What the policies share that give every entry a score and keep the highest.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lacake/policy.h"

namespace lacake {

// Keeps, in the order of the conversation, the first `sinks` entries, the last `window` ones and the best-scored of the
// rest: in each KV head its own, or the same in all heads of a layer. How entries are scored is left to the policy.
//
// A *list* is what is held of one KV head, or of a layer where its heads hold the same.
class RankedPolicy : public Policy {
 public:
  struct Options {
    std::size_t cache_size = 0;  // C: entries a layer on average, protected ones included
    std::size_t sinks = 0;       // sinks + window <= C
    std::size_t window = 0;
    Positions positions = Positions::kTrue;
    bool per_head = true;
    bool adaptive_heads = false;  // a layer's entries are shared among its heads by where the best scores fall
    double head_floor = 0;        // share of an even head's entries that none goes below
    bool uneven_layers = false;
    double evict_fraction = 0;  // what a list above its size drops in decoding, see entries_at_once
  };

  RankedPolicy(const Options&, const AttentionShape&);

  const PolicyTraits& traits() const final { return traits_; }
  void update(const Observation&, CacheEdits&) final;
  std::size_t reserve(int layer, int head) const final;
  std::size_t metadata_bytes() const override;

 protected:
  // Brings a list's scores up to date, in stored order: they are what the last call left, and 0 for the segment's own
  // entries. Those of protected entries are never looked at. In decoding several layers are scored at the same time:
  // what is written then is the layer's own.
  virtual void score(const Observation&, std::size_t list, std::span<float> scores) = 0;

  // The entries of a list that stay, or the one that goes, as counted by the last `score`: for policies that know more
  // of each than its score. Not called where all stay.
  virtual void kept(int layer, std::size_t list, std::span<const std::uint32_t> entries);
  virtual void dropped(int layer, std::size_t list, std::uint32_t entry);

  // Entries of a layer's list, protected ones included, when `n_tokens` > C were fed. Sums to at most C * n_layer over
  // the layers, and is sinks + window at least.
  virtual std::size_t layer_size(int layer, std::size_t n_tokens) const;

  // For policies that divide the whole anew after each layer of a prompt (CAKE's cascade): what `layer_size` says, for
  // layers 0 .. n - 1, when `layer` was scored; layers from n on stay as they are. Empty: not divided anew.
  // REQUIRES: Options::uneven_layers.
  virtual std::vector<std::size_t> divide(int layer);
  // Entries that a layer's lists hold, on average.
  std::size_t held(std::size_t layer) const;

  // Will this segment push something out of the layer?
  bool cuts(Phase, int layer, std::size_t n_new) const;
  // Will decoding, `n_steps` tokens from here?
  bool cuts_within(int layer, std::size_t n_steps) const;
  // Does a list hold more than it may, so that entries go by its scores when this token's update ends?
  bool overflows(int layer, std::size_t list) const;

  std::size_t n_fed() const { return n_fed_; }  // tokens of all finished segments, kept or not
  const Options& options() const { return options_; }
  const AttentionShape& shape() const { return shape_; }
  // A list's columns of a statistic with `n_columns` = all.size() / n_entries columns: [list's entries, columns /
  // lists].
  std::span<const float> list_columns(std::span<const float> all, std::size_t list) const;

 private:
  struct List {
    std::vector<float> scores;  // one for each entry held
    std::size_t size = 0;       // entries that it may hold while decoding
  };
  using Layer = std::vector<List>;

  void cut_segment(int layer, std::size_t n_tokens, CacheEdits&);
  void cut_layer(int layer, std::size_t size, std::size_t wanted, CacheEdits&);
  void cut_step(Layer&, int layer, CacheEdits&);
  std::vector<std::uint32_t> with_protected(std::size_t length, const std::vector<std::uint32_t>& chosen) const;
  std::vector<std::vector<std::uint32_t>> choose_even(const Layer&, std::size_t size) const;
  std::vector<std::vector<std::uint32_t>> choose_adaptive(const Layer&, std::size_t size) const;
  std::size_t held_elsewhere(int layer) const;

  Options options_;
  AttentionShape shape_;
  PolicyTraits traits_;
  std::vector<Layer> layers_;
  std::size_t n_fed_ = 0;
};

// PolicyType::max_entries_per_layer of all of them: C entries, and the new token's until the step's decision.
std::size_t ranked_max_entries(const PolicySettings&, const AttentionShape&, std::size_t cache_size);

// --- parameters that policies share ----------------------------------------------------------------------------------

// `positions=original|compacted`: for policies whose keys stand at their tokens. `index` closes them up instead.
PolicyParameter positions_parameter();
// `sinks=`: first tokens that always stay.
PolicyParameter sinks_parameter();
// And `heads=even|adaptive` and `floor=`, last: for policies that score heads apart.
std::vector<PolicyParameter> with_head_parameters(std::vector<PolicyParameter> own);

// `evict_fraction=`: the share of C that a full list drops at once in decoding.
PolicyParameter at_once_parameter(double default_value = 1.0 / 64);
// The entries that this is of a list of `size`, one at least: of C, or where it got fewer than C of its own size, as it
// would lose them all.
std::size_t entries_at_once(double share, std::size_t size, std::size_t cache_size);

// Reads those of them that the type declares; sizes and protected entries are in `options` already. Throws
// Error(kUsage) where they contradict each other.
void read_shared(const PolicyType&, const PolicySettings&, RankedPolicy::Options&);

}  // namespace lacake
