#pragma once

#include <memory>
#include <vector>

#include "calibration/ridge.h"
#include "lacake/policy_author.h"

namespace lacake {

// What is learned: the scores that are imitated, and what of them is seen.
struct Target {
  static constexpr const char* kName = "attention of a repeat";
  static Measures measures() { return {.accumulated = true, .group_mean = true, .inputs = true}; }
  // Of a segment's entry in a KV head's column, as a number whose logarithm is learned.
  static float of(const Observation& seen, std::size_t head, std::size_t entry);
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
  const RidgeSums::Map& map(int layer) const { return maps_[static_cast<std::size_t>(layer)]; }
  double r2(int layer) const { return r2_[static_cast<std::size_t>(layer)].mean(); }

 private:
  std::size_t n_embd_, n_heads_, first_ = 0, last_ = 0;
  std::vector<RidgeSums> sums_;       // by layer; none when the learning has ended
  std::vector<RidgeSums::Map> maps_;  // none before
  std::vector<R2> r2_;
  std::vector<float> targets_;  // [n_heads, n]
};

// A policy that keeps everything and takes lessons.
class Learner final : public Policy {
 public:
  Learner(Lessons& lessons, std::size_t cache_size) : lessons_(lessons), cache_size_(cache_size) {}

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
