#include "models/tiny_calibration.h"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <random>

#include "model/loaded_model.h"

namespace lacake::models {

TinyCalibration::TinyCalibration(const std::string& model_path, Model::Options options, unsigned seed,
                                 const std::function<void(CalibrationFile&)>& edit) {
  static std::atomic<int> count = 0;
  path_ = (std::filesystem::temp_directory_path() /
           ("lacake-calibration-" + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".gguf"))
              .string();
  options.calibration = Model::Options::kNoCalibration;
  const Model model(model_path, options);
  const Hyperparameters& h = model.loaded().hyperparameters;
  std::mt19937 random(seed);
  const auto draw = [&](std::size_t n, float size) {
    std::vector<float> numbers(n);
    for (float& x : numbers) x = size * ((float)(random() >> 8) * 0x1p-23f - 1);
    return numbers;
  };
  CalibrationFile file{.fingerprint = model.loaded().fingerprint(),
                       .model_name = model.loaded().display_name(),
                       .architecture = h.architecture,
                       .facts = {.target = "chance", .texts = {"none"}, .chunk = 1}};
  for (const LayerKind& kind : h.layers) {
    auto& layer = file.layers.emplace_back();
    if (kind.window > 0) continue;
    const auto n = (std::size_t)h.n_embd, heads = (std::size_t)h.n_head_kv;
    layer = {.weights = draw(n * heads, 1 / std::sqrt((float)n)), .bias = draw(heads, 0.1f)};
    file.facts.r2.push_back(0);
  }
  if (edit) edit(file);
  file.write(path_);
}

TinyCalibration::~TinyCalibration() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace lacake::models
