#pragma once

#include <memory>
#include <vector>

#include "calibration/ridge.h"
#include "lacake/policy_author.h"

namespace lacake {

// What is learned: KVzip+'s score of an entry. The largest probability that any query of a repeat gave it, in any head
// of its group, times what its value adds behind W_O, by the length of the queries' inputs. (KVzip+ takes each head's
// value beside its probability and each query's own length; here they are the group's mean and the text's, which are
// those of the repeat but for what stands before it.)
struct Target {
  static constexpr const char* kName = "kvzip+";
  static Measures measures() {
    return {.group_mean = true,
            .value_norm = ValueNorm::kOutput,
            .repeat = RepeatScore::kPeak,
            .repeat_sinks = 4,
            .inputs = true};
  }
  // Of all entries and KV heads, [n_entries, n_head_kv]; below 0 where nothing is known.
  static std::vector<float> of(const Observation& seen, std::size_t n_embd);
};

// Learns from the prompts of sessions as long as it is not testing, and is tested on them from then on.
class Lessons {
 public:
  Lessons(const AttentionShape& shape, std::size_t n_embd);

  // Of the tokens [first, last) of each prompt to come: others are the template's, or always stay.
  void attend_to(std::size_t first, std::size_t last) { first_ = first, last_ = last; }
  void see(const Observation& seen);

  // Ends the learning. False if it saw too little.
  bool learned(double alpha);
  const RidgeSums::Map& map(int layer) const { return maps_[(std::size_t)layer]; }
  double r2(int layer) const { return r2_[(std::size_t)layer].mean(); }

 private:
  std::size_t n_embd_, n_heads_, first_ = 0, last_ = 0;
  std::vector<RidgeSums> sums_;       // by layer; none when the learning has ended
  std::vector<RidgeSums::Map> maps_;  // none before
  std::vector<R2> r2_;
  std::vector<float> inputs_, targets_;  // [n_embd, n], [n_heads, n]
};

// A policy that keeps everything and takes lessons.
class Learner final : public Policy {
 public:
  Learner(Lessons& lessons, std::size_t cache_size) : lessons_(lessons), cache_size_(cache_size) {
    traits_.repeat_chunk = cache_size;  // all at once, where the model was trained for text and repeat together
  }

  const PolicyTraits& traits() const override { return traits_; }
  Measures measures(Phase phase, int, std::size_t, std::size_t) const override {
    return phase == Phase::kPrefill ? Target::measures() : Measures{};
  }
  void update(const Observation& seen, CacheEdits&) override { lessons_.see(seen); }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override { return n_held + n_new; }
  std::size_t reserve(int, int) const override { return cache_size_; }
  void resize(std::size_t, CacheEdits&) override {}
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Learner>(*this); }
  void visit(PolicyFields&) override {}

 private:
  PolicyTraits traits_;
  Lessons& lessons_;
  std::size_t cache_size_;
};

}  // namespace lacake
