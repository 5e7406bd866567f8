#include "model/architecture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "model/rope.h"

namespace lacake {
namespace {

// What a family's layers have. See Hyperparameters for the words.
enum Features : unsigned {
  kHeadNorm = 1,
  kProjectionNorm = 2,
  kNormAfter = 4,
  kNoNormBefore = 8,
  kJoinedGateUp = 16,
  kExperts = 32,  // always; others may have them
  kSinks = 64,
  kScaledByWidth = 128,     // the embedding, by the root of its width
  kAttentionSoftcap = 256,  // where the file has one
  kMultipliers = 512,       // Granite's scales
};

// A family of models as data. To add one: a row here, and its tensors in weights.cpp where they are new.
struct Architecture {
  const char* name;
  int rope_mode;  // GGML_ROPE_TYPE_NORMAL: neighbours turn together; GGML_ROPE_TYPE_NEOX: halves do
  unsigned features = 0;
  Activation activation = Activation::kSilu;
  // One layer in so many has full attention, the last of each, unless the file says otherwise. 0: the family has no
  // sliding windows, or they are not meant (llama.cpp takes Phi-3's as full attention too).
  int window_period = 0;
  int default_window = 0;  // where the file has none
  LocalRope local_rope = LocalRope::kSame;
  int no_rope_period = 0;  // one layer in so many, the last of each, uses no RoPE
  int wide_scale = 0;      // a model of so many layers scales q.k by width / heads (the 27B ones of Gemma)
};

constexpr Architecture kArchitectures[] = {
    // Llama 2 and 3.x, Mistral, Nemo, Mixtral, SmolLM2, TinyLlama, Yi, DeepSeek's distillations
    {"llama", GGML_ROPE_TYPE_NORMAL},
    {"smollm3", GGML_ROPE_TYPE_NORMAL, 0, Activation::kSilu, 0, 0, LocalRope::kSame, 4},
    {"qwen2", GGML_ROPE_TYPE_NEOX},
    {"qwen3", GGML_ROPE_TYPE_NEOX, kHeadNorm},
    {"qwen3moe", GGML_ROPE_TYPE_NEOX, kHeadNorm | kExperts},
    {"gemma2", GGML_ROPE_TYPE_NEOX, kNormAfter | kScaledByWidth | kAttentionSoftcap, Activation::kGelu, 2, 4096,
     LocalRope::kSame, 0, 46},
    {"gemma3", GGML_ROPE_TYPE_NEOX, kNormAfter | kHeadNorm | kScaledByWidth, Activation::kGelu, 6, 0,
     LocalRope::kOwnBase, 0, 62},
    {"phi3", GGML_ROPE_TYPE_NEOX, kJoinedGateUp},
    {"granite", GGML_ROPE_TYPE_NORMAL, kMultipliers},
    {"granitemoe", GGML_ROPE_TYPE_NORMAL, kMultipliers | kExperts},
    {"olmo2", GGML_ROPE_TYPE_NEOX, kNormAfter | kNoNormBefore | kProjectionNorm, Activation::kSilu, 4, 0,
     LocalRope::kUnscaled},
    {"gpt-oss", GGML_ROPE_TYPE_NEOX, kExperts | kSinks, Activation::kClampedSwiglu, 2},
};

// Far above any model that exists, low enough that sizes computed from them cannot overflow.
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr std::int64_t kMaxExperts = 4096;

class Reader {
 public:
  Reader(const GgufFile& file, const Architecture& a) : file_(file), a_(a), p_(a.name + std::string(".")) {}

  Hyperparameters read(const RopeOptions& rope, std::int64_t context_length) {
    h_.architecture = a_.name;
    h_.name = file_.string("general.name").value_or("");
    sizes();
    experts();
    steps();
    scales();
    h_.rope_mode = a_.rope_mode;
    // ggml copies what it does not rotate in pairs too.
    if (h_.d_k % 2 != 0) file_.fail(p_ + "attention.key_length", "an even number", fmt::format("{}", h_.d_k));
    h_.n_rot = (int)file_.integer_in(p_ + "rope.dimension_count", 2, h_.d_k, h_.d_k);
    if (h_.n_rot % 2 != 0) {
      file_.fail(p_ + "rope.dimension_count", "an even number", fmt::format("{}", h_.n_rot));
    }
    read_ropes(file_, a_.local_rope, rope, context_length, h_);
    layers();
    return h_;
  }

 private:
  void sizes() {
    h_.n_layer = (int)file_.integer_in(p_ + "block_count", 1, kMaxLayers);
    h_.n_embd = (int)file_.integer_in(p_ + "embedding_length", 1, kMaxWidth);
    h_.n_head = (int)file_.integer_in(p_ + "attention.head_count", 1, kMaxWidth);
    h_.n_head_kv = (int)file_.integer_in(p_ + "attention.head_count_kv", 1, kMaxWidth, h_.n_head);
    if (h_.n_head % h_.n_head_kv != 0) {
      file_.fail(p_ + "attention.head_count_kv", fmt::format("a divisor of head_count {}", h_.n_head),
                 fmt::format("{}", h_.n_head_kv));
    }
    const bool has_head_size = file_.has(p_ + "attention.key_length");
    if (!has_head_size && h_.n_embd % h_.n_head != 0) {
      file_.fail(p_ + "embedding_length", fmt::format("a multiple of head_count {}", h_.n_head),
                 fmt::format("{}", h_.n_embd));
    }
    h_.d_k = (int)file_.integer_in(p_ + "attention.key_length", 1, kMaxWidth, h_.n_embd / h_.n_head);
    h_.d_v = (int)file_.integer_in(p_ + "attention.value_length", 1, kMaxWidth, h_.n_embd / h_.n_head);
    h_.n_ctx_train = file_.integer_in(p_ + "context_length", 1, INT32_MAX);
    h_.rms_epsilon = (float)file_.number_in(p_ + "attention.layer_norm_rms_epsilon", 0, 1);
    const ggml_tensor* embedding = file_.tensor("token_embd.weight");
    if (!embedding) file_.fail("tensor token_embd.weight", "a matrix", "none");
    h_.n_vocab = (int)embedding->ne[1];
  }

  void experts() {
    const bool always = a_.features & kExperts;
    h_.n_expert = (int)file_.integer_in(p_ + "expert_count", always ? 1 : 0, kMaxExperts,
                                        always ? std::nullopt : std::optional<std::int64_t>(0));
    if (h_.n_expert > 0) {
      h_.n_expert_used = (int)file_.integer_in(p_ + "expert_used_count", 1, h_.n_expert);
      // Families that have a key of their own for it; Mixtral's experts are as wide as feed_forward_length says.
      const std::string own = p_ + "expert_feed_forward_length", all = p_ + "feed_forward_length";
      h_.n_ff = (int)file_.integer_in(file_.has(own) ? own : all, 1, kMaxWidth);
      h_.n_ff_shared = (int)file_.integer_in(p_ + "expert_shared_feed_forward_length", 0, kMaxWidth, 0);
      if (file_.integer_in(p_ + "expert_group_count", 0, kMaxExperts, 0) > 1) {
        file_.fail(p_ + "expert_group_count", "at most 1, because groups of experts are not supported", "more");
      }
    } else {
      h_.n_ff = (int)file_.integer_in(p_ + "feed_forward_length", 1, kMaxWidth);
    }
  }

  void steps() {
    h_.activation = a_.activation;
    h_.norm_before = !(a_.features & kNoNormBefore);
    h_.norm_after = a_.features & kNormAfter;
    h_.head_norm = a_.features & kHeadNorm;
    h_.projection_norm = a_.features & kProjectionNorm;
    h_.joined_gate_up = a_.features & kJoinedGateUp;
    h_.sinks = a_.features & kSinks;
    h_.softmax_over_chosen = h_.sinks;
    // gpt-oss names the norm before its experts as others do the one after attention.
    if (h_.sinks) h_.ffn_norm = "post_attention_norm";
  }

  void scales() {
    const int of_width = a_.wide_scale == h_.n_layer ? h_.n_embd / h_.n_head : h_.d_k;
    h_.attention_scale = 1.0f / std::sqrt((float)of_width);
    if (a_.features & kScaledByWidth) h_.embedding_scale = std::sqrt((float)h_.n_embd);
    if (a_.features & kAttentionSoftcap) h_.attention_softcap = (float)softcap("attn_logit_softcapping", 50);
    if (a_.window_period > 0 && (a_.features & kScaledByWidth)) {
      h_.output_softcap = (float)softcap("final_logit_softcapping", a_.features & kAttentionSoftcap ? 30 : 0);
    }
    if (a_.features & kMultipliers) {
      h_.output_scale = 1.0f / (float)file_.number_in(p_ + "logit_scale", 1e-6, 1e6);
      h_.residual_scale = multiplier("residual_scale", 1);
      h_.embedding_scale = multiplier("embedding_scale", 1);
      h_.attention_scale = multiplier("attention.scale", h_.attention_scale);
    }
  }
  double softcap(const char* key, double default_value) const {
    return file_.number_in(p_ + key, 0, 1e6, default_value);
  }
  // 0 means that nothing is multiplied.
  float multiplier(const char* key, float otherwise) const {
    const double value = file_.number_in(p_ + key, -1e6, 1e6, 0.0);
    return value == 0 ? otherwise : (float)value;
  }

  void layers() {
    h_.layers.resize((std::size_t)h_.n_layer);
    if (a_.no_rope_period > 0) {
      for (int l = a_.no_rope_period - 1; l < h_.n_layer; l += a_.no_rope_period) {
        h_.layers[(std::size_t)l].rope = kNoRope;
      }
    }
    if ((a_.features & kMultipliers) && !file_.boolean(p_ + "rope.scaling.finetuned").value_or(true)) {
      for (LayerKind& l : h_.layers) l.rope = kNoRope;
    }
    if (a_.window_period > 0) windows();
  }

  void windows() {
    const int window = (int)file_.integer_in(p_ + "attention.sliding_window", 0, INT32_MAX, a_.default_window);
    if (window == 0) return;
    const std::string key = p_ + "attention.sliding_window_pattern";
    const auto listed = file_.integers(key);
    if (!listed.empty() && listed.size() < (std::size_t)h_.n_layer) {
      file_.fail(key, fmt::format("one for each of {} layers", h_.n_layer), fmt::format("{}", listed.size()));
    }
    const std::int64_t period = listed.empty() ? file_.integer_in(key, 0, kMaxLayers, a_.window_period) : 0;
    bool any_full = false;
    for (int l = 0; l < h_.n_layer; ++l) {
      const bool slides = !listed.empty() ? listed[(std::size_t)l] != 0 : period == 0 || l % period < period - 1;
      any_full = any_full || !slides;
      if (slides) h_.layers[(std::size_t)l] = {.window = window, .rope = (int)h_.ropes.size() - 1};
    }
    if (!any_full) {
      file_.fail(key, "a layer with full attention", fmt::format("{} that slide", h_.n_layer));
    }
  }

  const GgufFile& file_;
  const Architecture& a_;
  const std::string p_;
  Hyperparameters h_;
};

}  // namespace

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (const Architecture& a : kArchitectures) names.push_back(a.name);
  return names;
}

Hyperparameters read_hyperparameters(const GgufFile& file, const RopeOptions& rope, std::int64_t context_length) {
  const std::string name = file.string("general.architecture").value_or("");
  if (name.empty()) file.fail("general.architecture", "the name of a model family", "none");
  for (const Architecture& a : kArchitectures) {
    if (name == a.name) return Reader(file, a).read(rope, context_length);
  }
  file.fail("general.architecture", fmt::format("one of {}", fmt::join(supported_architectures(), ", ")),
            fmt::format("\"{}\"", name));
}

}  // namespace lacake
