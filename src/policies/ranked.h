#pragma once

// What the policies share that give every entry a score and keep the highest.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lacake/policy_author.h"

namespace lacake {

// Keeps, in the order of the conversation, the first `sinks` entries, the last `window` ones and the best-scored of the
// rest: in each KV head its own, or the same in all heads of a layer. How entries are scored is left to the policy.
//
// A *list* is what is held of one KV head, or of a layer where its heads hold the same.
class RankedPolicy : public Policy {
 public:
  struct Options {
    std::string policy = {};         // its name, for errors
    std::size_t cache_size = 0;      // C: entries a layer on average, protected ones included
    std::size_t min_cache_size = 1;  // what C may be changed to
    std::size_t sinks = 0;           // sinks + window < min_cache_size
    std::size_t window = 0;
    double window_share = 0;  // above 0: this share of C, at most C - 1; and at most `window`, where that is not 0
    Positions positions = Positions::kOriginal;
    bool per_head = true;
    // Whose best scores share a whole of entries among them: nobody's, those of a layer's heads, or of all layers and
    // heads. For kJoint scores of different layers must be comparable. kSettled: as they were shared before; what a
    // prompt brings takes the place of each list's own.
    enum class Sharing { kEven, kAdaptive, kJoint, kSettled };
    Sharing sharing = Sharing::kEven;
    // Whether lists of all layers share, or did when their sizes were decided.
    bool is_joint() const { return sharing == Sharing::kJoint || sharing == Sharing::kSettled; }
    bool changes_sharing = false;  // share() may be called
    double head_floor = 0;         // share of an even head's entries that no list goes below where they are shared
    bool uneven_layers = false;
    std::size_t repeat_chunk = 0;  // PolicyTraits
    double evict_fraction = 0;     // what a list above its size evicts in decoding, see n_evicted_at_once
  };

  RankedPolicy(const Options&, const AttentionShape&);

  const PolicyTraits& traits() const final { return traits_; }
  void update(const Observation&, CacheEdits&) final;
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const final;
  std::size_t reserve(int layer, int head) const final;
  void resize(std::size_t cache_size, CacheEdits&) final;
  void visit(PolicyFields& state) override;
  std::size_t metadata_bytes() const override;

 protected:
  // Brings a list's scores up to date, in stored order: they are what the last call left, and 0 for the segment's own
  // entries. Those of protected entries are never looked at. In decoding several layers are scored at the same time:
  // what is written then is the layer's own.
  // Returns how many of the newest entries cannot be compared with the others, because nothing was seen of them:
  // kNothingSeen if this segment told nothing of its own.
  virtual std::size_t score(const Observation&, std::size_t list, std::span<float> scores) = 0;
  static constexpr std::size_t kNothingSeen = SIZE_MAX;

  // For policies whose scores follow from more than the last call left: brings them up to date between segments, when
  // the cache is resized.
  virtual void score_again(int layer, std::size_t list, std::span<float> scores) const;

  // The entries of a list that stay, or the one that goes, as counted by the last `score`: for policies that know more
  // of each than its score. Not called where all stay.
  virtual void kept(int layer, std::size_t list, std::span<const std::uint32_t> entries);
  virtual void dropped(int layer, std::size_t list, std::uint32_t entry);

  // Entries of a layer's list, protected ones included, when `n_tokens` > C were fed. Sums to at most C * n_layer over
  // the layers, is sinks + window at least and n_tokens at most, and does not fall when C grows.
  virtual std::size_t layer_size(int layer, std::size_t n_tokens) const;

  // For policies that divide the whole anew after each layer of a prompt (CAKE's cascade): what `layer_size` says, for
  // layers 0 .. n - 1, when `layer` was scored; layers from n on stay as they are. Also asked with the last layer when
  // the cache shrinks, maybe before anything was scored. Empty: not divided anew. REQUIRES: Options::uneven_layers.
  virtual std::vector<std::size_t> divide(int layer);
  // How entries are shared from here on. To be called before a segment's first layer is scored.
  // REQUIRES: Options::changes_sharing.
  void share(Options::Sharing);
  // Entries that a layer's lists hold, on average.
  std::size_t held(std::size_t layer) const;
  // Entries of one of them; in `score`, the segment's own included.
  std::size_t held_in(int layer, std::size_t list) const;

  // Where lists share: what so many of them hold together when a segment is cut. At most C for each.
  virtual std::size_t shared(std::size_t n_lists) const;

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
    std::vector<float> scores;   // one for each entry held
    std::size_t size = 0;        // entries that it may hold while decoding
    std::size_t n_unscored = 0;  // of the newest entries: what `score` said of them
  };
  using Layer = std::vector<List>;
  using Scores = std::vector<std::span<const float>>;  // of a layer's lists
  using Kept = std::vector<std::vector<std::uint32_t>>;

  void set_cache_size(std::size_t cache_size);
  std::size_t target_size(int layer) const;
  void shrink(int layer, std::size_t size, CacheEdits&);
  void shrink_jointly(CacheEdits&);
  void cut_segment(int layer, std::size_t n_tokens, CacheEdits&);
  void cut_layer(int layer, const Scores&, std::size_t size, std::size_t wanted, CacheEdits&);
  void cut_jointly(const Scores&, CacheEdits&);
  void apply(int layer, Kept, CacheEdits&);
  void share_free(std::span<List* const> lists, std::size_t n_entries);
  void cut_step(Layer&, int layer, CacheEdits&);
  Scores scores_of(int layer) const;
  std::vector<float> scores_between_segments(int layer, std::size_t list, std::size_t size) const;
  std::vector<std::uint32_t> with_protected(std::size_t length, const std::vector<std::uint32_t>& chosen) const;
  std::vector<std::uint32_t> choose(std::span<const float> scores, std::size_t size) const;
  Kept choose_even(const Scores&, std::size_t size) const;
  Kept choose_together(const Scores&, std::size_t room, std::size_t n_safe) const;
  std::size_t n_safe(std::size_t size) const;
  std::size_t held_elsewhere(int layer) const;
  std::size_t n_protected() const { return options_.sinks + options_.window; }
  static void keep_scores(List&, std::span<const std::uint32_t> kept);

  Options options_;
  AttentionShape shape_;
  std::size_t most_window_;  // where it is a share
  PolicyTraits traits_;
  std::vector<Layer> layers_;
  std::size_t n_fed_ = 0;
  std::size_t n_sized_ = 0;  // tokens fed when a prompt's segment last decided the layers' sizes; 0: none did
};

// PolicyType::max_entries_per_layer of all of them: C entries, and the new token's until the step's decision.
std::size_t ranked_max_entries(const PolicySettings&, const AttentionShape&, std::size_t cache_size);

// PolicyType::min_cache_size of most of them: the sinks and the window, as far as the type has such parameters, and one
// entry that is chosen.
std::size_t ranked_min_cache_size(const PolicyType&, const PolicySettings&);
template <const PolicyType& (*kType)()>
std::size_t ranked_min_cache_size(const PolicySettings& given, const AttentionShape&) {
  return ranked_min_cache_size(kType(), given);
}

// Options as far as parameters say them that policies share: the cache size, checked, and of sinks, window,
// evict_fraction, positions, heads and floor those that the type declares. Throws Error(kUsage) where the cache size is
// too small or they contradict each other.
RankedPolicy::Options ranked_options(const PolicyType&, const PolicySettings&, const AttentionShape&,
                                     std::size_t cache_size);

}  // namespace lacake
