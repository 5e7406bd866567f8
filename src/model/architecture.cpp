#include "model/architecture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

namespace lacake {
namespace {

// A family of models as data. To add one: a row here, and its tensors in weights.cpp where they are new.
struct Architecture {
  const char* name;
  int rope_mode;  // GGML_ROPE_TYPE_NORMAL: neighbours turn together; GGML_ROPE_TYPE_NEOX: halves do
};

constexpr Architecture kArchitectures[] = {
    {"llama", GGML_ROPE_TYPE_NORMAL},  // Llama 2 and 3.x, Mistral, SmolLM2, TinyLlama
};

// Far above any model that exists, low enough that sizes computed from them cannot overflow.
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxWidth = 1 << 20;

}  // namespace

float Hyperparameters::attention_scale() const { return 1.0f / std::sqrt((float)d_k); }

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (const Architecture& a : kArchitectures) names.push_back(a.name);
  return names;
}

Hyperparameters read_hyperparameters(const GgufFile& file) {
  Hyperparameters h;
  h.architecture = file.string("general.architecture").value_or("");
  if (h.architecture.empty()) file.fail("general.architecture: missing, expected the name of a model family");
  const Architecture* architecture = nullptr;
  for (const Architecture& a : kArchitectures) {
    if (h.architecture == a.name) architecture = &a;
  }
  if (!architecture) {
    file.fail(fmt::format("general.architecture: \"{}\" is not supported, expected one of: {}", h.architecture,
                          fmt::join(supported_architectures(), ", ")));
  }
  h.name = file.string("general.name").value_or("");

  const std::string p = h.architecture + ".";
  h.n_layer = (int)file.integer_in(p + "block_count", 1, kMaxLayers);
  h.n_embd = (int)file.integer_in(p + "embedding_length", 1, kMaxWidth);
  h.n_ff = (int)file.integer_in(p + "feed_forward_length", 1, kMaxWidth);
  h.n_head = (int)file.integer_in(p + "attention.head_count", 1, kMaxWidth);
  h.n_head_kv = (int)file.integer_in(p + "attention.head_count_kv", 1, kMaxWidth, h.n_head);
  if (h.n_head % h.n_head_kv != 0) {
    file.fail(fmt::format("{}attention.head_count_kv: expected a divisor of head_count {}, found {}", p, h.n_head,
                          h.n_head_kv));
  }
  const bool has_head_size = file.has(p + "attention.key_length");
  if (!has_head_size && h.n_embd % h.n_head != 0) {
    file.fail(fmt::format("{}embedding_length: expected a multiple of head_count {}, found {}", p, h.n_head, h.n_embd));
  }
  h.d_k = (int)file.integer_in(p + "attention.key_length", 1, kMaxWidth, h.n_embd / h.n_head);
  h.d_v = (int)file.integer_in(p + "attention.value_length", 1, kMaxWidth, h.n_embd / h.n_head);
  h.n_ctx_train = file.integer_in(p + "context_length", 1, INT32_MAX);
  h.rms_epsilon = (float)file.number_in(p + "attention.layer_norm_rms_epsilon", 0, 1);

  h.rope_mode = architecture->rope_mode;
  h.n_rot = (int)file.integer_in(p + "rope.dimension_count", 2, h.d_k, h.d_k);
  if (h.n_rot % 2 != 0) file.fail(fmt::format("{}rope.dimension_count: expected an even number, found {}", p, h.n_rot));
  h.rope_freq_base = (float)file.number_in(p + "rope.freq_base", 1e-3, 1e12, 10000.0);
  const std::string scaling = file.string(p + "rope.scaling.type").value_or("none");
  // Files older than rope.scaling.* say the linear factor in rope.scale_linear.
  const double factor =
      file.number_in(p + "rope.scaling.factor", 0, 1e6, file.number_in(p + "rope.scale_linear", 0, 1e6, 0.0));
  if (scaling == "linear" || (scaling == "none" && !file.has(p + "rope.scaling.type"))) {
    if (factor > 0) h.rope_freq_scale = (float)(1.0 / factor);
  } else if (scaling != "none") {
    file.fail(fmt::format("{}rope.scaling.type: \"{}\" is not supported, expected none or linear", p, scaling));
  }

  const ggml_tensor* embedding = file.tensor("token_embd.weight");
  if (!embedding) file.fail("token_embd.weight: missing");
  h.n_vocab = (int)embedding->ne[1];
  return h;
}

}  // namespace lacake
