#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lacake/calibration.h"
#include "model/architecture.h"

namespace lacake {

// The linear map of one layer: score = weights . input + bias for each KV head, `input` a column that the layer's keys
// are projected from.
struct LearnedLayer {
  std::vector<float> weights;  // [n_embd, n_head_kv]
  std::vector<float> bias;     // [n_head_kv]
};

// Scores of one token, one for each KV head, stride floats apart: the same bits on every instruction set and whatever
// is computed beside it. Costs n_embd * n_head_kv multiply-adds.
void learned_scores(const LearnedLayer& layer, const float* input, float* to, std::size_t stride);

// What was learned about a model, as the file beside it holds it (docs/calibration.md).
struct CalibrationFile {
  std::string fingerprint;  // of the model (model/fingerprint.h)
  std::string model_name, architecture;
  CalibrationFacts facts;
  std::vector<std::optional<LearnedLayer>> layers;  // by the model's layer; none of those that slide

  // Throws Error(kInput) naming the file and the key or part that is not as this model's must be: damaged, another
  // version, other sizes. Whether it is this model's the fingerprint says, which is not compared here.
  static CalibrationFile read(const std::string& path, const Hyperparameters&);
  // The whole new file or the old one. Throws Error(kInput) naming it.
  void write(const std::string& path) const;

  // What its maps are known by, never 0: two files with the same maps have the same.
  std::int64_t id() const;
};

}  // namespace lacake
