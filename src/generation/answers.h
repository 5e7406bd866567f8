#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "lacake/generation.h"

namespace lacake {

// The answers to one prompt: the first is written in the session that read it, each other one in a copy of that.
class Answers {
 public:
  // `n` of them. The first has the seed of the options, the others have seeds that follow from it. Throws as
  // Generation: made before a long prompt is read.
  Answers(const Model& model, const AnswerFormat& format, const GenerationOptions& options, std::size_t n) {
    GenerationOptions seeded = options;
    for (const std::uint32_t seed : answer_seeds(options.sampling.seed, n)) {
      seeded.sampling.seed = seed;
      generations_.emplace_back(model, format, seeded);
    }
  }

  // What `read` was fed is the prompt. Throws as Engine::fork.
  void begin(Engine& engine, Session& read) {
    for (std::size_t i = 0; i < generations_.size(); ++i) {
      if (i > 0) copies_.push_back(engine.fork(read));
      Session& session = i > 0 ? *copies_.back() : read;
      generations_[i].begin(session);
      writing_.push_back({&generations_[i], &session});
    }
  }

  // The copies go: of their answers only what was written stays.
  void close_copies() {
    for (std::size_t i = 1; i < writing_.size(); ++i) writing_[i].session = nullptr;
    copies_.clear();
  }

  // Of all of them; none before begin().
  std::span<const Writing> writing() const { return writing_; }

 private:
  std::vector<Generation> generations_;
  std::vector<std::unique_ptr<Session>> copies_;
  std::vector<Writing> writing_;
};

}  // namespace lacake
