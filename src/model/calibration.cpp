#include "model/calibration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <sstream>
#include <string_view>

#define XXH_INLINE_ALL
#include "lacake/model.h"
#include "matmul/dot.h"
#include "snapshot/parts.h"
#include "xxhash.h"

namespace lacake {
namespace {

constexpr const char* kKind = "lacake.calibration";
constexpr std::uint64_t kVersion = 1;
constexpr std::string_view kSuffix = ".gguf";

std::string part_name(std::size_t layer, const char* what) { return fmt::format("blk.{}.score.{}", layer, what); }

std::vector<float> finite(const PartsFile& file, const std::string& name, std::size_t n) {
  file.part(name, GGML_TYPE_F32, n);
  std::vector<float> values = file.list<float>(name);
  for (const float value : values) {
    if (!std::isfinite(value)) file.fail("part " + name, "numbers", fmt::format("{}", value));
  }
  return values;
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) result.push_back(line);
  return result;
}

}  // namespace

std::string calibration_path(const std::string& model_path) {
  std::string_view stem = model_path;
  if (stem.ends_with(kSuffix)) stem.remove_suffix(kSuffix.size());
  return fmt::format("{}.calibration{}", stem, kSuffix);
}

std::string calibration_in_use(const std::string& model_path, const std::string& asked) {
  if (asked == Model::Options::kNoCalibration) return "";
  if (!asked.empty()) return asked;
  const std::string beside = calibration_path(model_path);
  std::error_code ignored;
  return std::filesystem::exists(beside, ignored) ? beside : "";
}

double CalibrationFacts::mean_r2() const {
  return std::accumulate(r2.begin(), r2.end(), 0.0) / (double)std::max<std::size_t>(r2.size(), 1);
}

void learned_scores(const LearnedLayer& layer, const float* input, float* to, std::size_t stride) {
  const std::size_t n_heads = layer.bias.size(), n = layer.weights.size() / n_heads;
  for (std::size_t head = 0; head < n_heads; ++head) {
    to[head * stride] = matmul::dot(layer.weights.data() + head * n, input, n) + layer.bias[head];
  }
}

CalibrationFile CalibrationFile::read(const std::string& path, const Hyperparameters& h) {
  const PartsFile file(path, "a calibration that lacake made");
  if (!file.has("general.type") || file.text("general.type") != kKind) {
    file.fail("general.type", kKind, file.has("general.type") ? file.text("general.type") : "none");
  }
  const std::uint64_t version = file.number("calibration.version", 0, UINT64_MAX);
  if (version != kVersion) {
    file.fail("calibration.version", fmt::format("{}", kVersion), fmt::format("{}", version));
  }
  CalibrationFile result;
  result.fingerprint = file.text("model.fingerprint");
  result.model_name = file.text("model.name");
  result.architecture = file.text("model.architecture");
  CalibrationFacts& facts = result.facts;
  facts.target = file.text("calibration.target");
  facts.texts = lines(file.part_text("texts"));
  facts.n_tokens = file.number("calibration.tokens", 0, INT64_MAX);
  facts.n_held_out = file.number("calibration.held_out", 0, INT64_MAX);
  facts.chunk = file.number("calibration.chunk", 0, INT64_MAX);
  facts.alpha = file.real("calibration.alpha");
  const auto n_head_kv = (std::size_t)h.n_head_kv;
  result.layers.resize((std::size_t)h.n_layer);
  for (std::size_t i = 0; i < result.layers.size(); ++i) {
    if (h.layers[i].window > 0) continue;
    LearnedLayer& layer = result.layers[i].emplace();
    layer.weights = finite(file, part_name(i, "weight"), (std::size_t)h.n_embd * n_head_kv);
    layer.bias = finite(file, part_name(i, "bias"), n_head_kv);
  }
  const auto n_learned =
      (std::size_t)std::count_if(result.layers.begin(), result.layers.end(), [](const auto& l) { return !!l; });
  const std::vector<float> r2 = finite(file, "r2", n_learned);
  facts.r2.assign(r2.begin(), r2.end());
  return result;
}

void CalibrationFile::write(const std::string& path) const {
  PartsWriter writer;
  writer.set("general.type", kKind);
  writer.set("calibration.version", kVersion);
  writer.set("model.name", model_name);
  writer.set("model.architecture", architecture);
  writer.set("model.fingerprint", fingerprint);
  writer.set("calibration.target", facts.target);
  writer.set("calibration.tokens", facts.n_tokens);
  writer.set("calibration.held_out", facts.n_held_out);
  writer.set("calibration.chunk", facts.chunk);
  writer.set("calibration.alpha", facts.alpha);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i]) continue;
    const LearnedLayer& layer = *layers[i];
    const auto n_heads = (std::int64_t)layer.bias.size();
    const std::int64_t shape[] = {(std::int64_t)layer.weights.size() / n_heads, n_heads};
    writer.add(part_name(i, "weight"), GGML_TYPE_F32, shape,
               [&layer](std::span<std::byte> to) { std::memcpy(to.data(), layer.weights.data(), to.size()); });
    writer.add(part_name(i, "bias"), layer.bias);
  }
  writer.add("r2", std::vector<float>(facts.r2.begin(), facts.r2.end()));
  writer.add_text("texts", fmt::format("{}", fmt::join(facts.texts, "\n")));
  writer.write(path);
}

std::int64_t CalibrationFile::id() const {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (const auto& layer : layers) {
    if (!layer) continue;
    XXH3_64bits_update(&state, layer->weights.data(), layer->weights.size() * sizeof(float));
    XXH3_64bits_update(&state, layer->bias.data(), layer->bias.size() * sizeof(float));
  }
  return (std::int64_t)(XXH3_64bits_digest(&state) >> 1 | 1);
}

}  // namespace lacake
