#include "models/tiny_model.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "ggml-cpp.h"

namespace lacake::models {
namespace {

constexpr int kSpecial = 3;  // <unk>, <s>, </s>
constexpr int kBytes = 256;

// A generator of one line: the standard distributions differ between libraries, and files must not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  std::uint32_t bits() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return (std::uint32_t)(state_ >> 33);
  }
  // Four uniform numbers make a bell: mean 0, deviation 1, nothing beyond 3.5.
  float bell() {
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += (float)bits() * 0x1p-31f - 0.5f;
    return sum * 1.7320508f;
  }

 private:
  std::uint64_t state_;
};

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;  // as libllama numbers them
};

// A SentencePiece vocabulary: what the letters do not cover falls back to bytes, so any text has tokens.
Vocabulary vocabulary(int n_vocab) {
  enum { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
  const std::string space = "\xE2\x96\x81";  // U+2581, how SentencePiece writes a space
  Vocabulary v;
  const auto add = [&](std::string token, int type) {
    if ((int)v.tokens.size() == n_vocab) return;
    v.scores.push_back(type == kNormal ? -(float)v.tokens.size() : 0.0f);
    v.tokens.push_back(std::move(token));
    v.types.push_back(type);
  };
  add("<unk>", kUnknown);
  add("<s>", kControl);
  add("</s>", kControl);
  char name[8];
  for (int byte = 0; byte < kBytes; ++byte) {
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    add(name, kByte);
  }
  add(space, kNormal);
  for (char c = 'a'; c <= 'z'; ++c) add(std::string(1, c), kNormal);
  for (char c = 'a'; c <= 'z'; ++c) add(space + c, kNormal);
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) add({a, b}, kNormal);
  }
  while ((int)v.tokens.size() < n_vocab) add("word" + std::to_string(v.tokens.size()), kNormal);
  return v;
}

class Writer {
 public:
  explicit Writer(const TinyModel& m) : m_(m), random_(m.seed), file_(gguf_init_empty()) {
    context_.reset(ggml_init({.mem_size = bytes(), .mem_buffer = nullptr, .no_alloc = false}));
  }

  // One file, or its tensors in turn over several, all metadata in the first.
  void write(const std::vector<std::string>& paths) {
    metadata();
    for (std::size_t i = 1; i < paths.size(); ++i) others_.emplace_back(gguf_init_empty());
    tensors();
    if (paths.size() > 1) {
      for (std::size_t i = 0; i < paths.size(); ++i) {
        gguf_set_val_u16(part(i), "split.no", (std::uint16_t)i);
        gguf_set_val_u16(part(i), "split.count", (std::uint16_t)paths.size());
        gguf_set_val_i32(part(i), "split.tensors.count", (std::int32_t)n_added_);
      }
    }
    if (m_.edit) m_.edit(file_.get());
    for (std::size_t i = 0; i < paths.size(); ++i) {
      if (!gguf_write_to_file(part(i), paths[i].c_str(), /*only_meta*/ false)) {
        throw std::runtime_error(paths[i] + ": cannot be written");
      }
    }
  }

 private:
  // What a family's layers have.
  bool is(const char* architecture) const { return m_.architecture == architecture; }
  bool gemma() const { return is("gemma2") || is("gemma3"); }
  bool granite() const { return is("granite") || is("granitemoe"); }
  bool norm_before() const { return !is("olmo2"); }
  bool norm_after() const { return gemma() || is("olmo2"); }
  bool head_norm() const { return is("qwen3") || is("qwen3moe") || is("gemma3"); }
  bool output_bias() const { return is("llama") || is("gpt-oss") || granite(); }

  gguf_context* part(std::size_t i) const { return i == 0 ? file_.get() : others_[i - 1].get(); }

  // Of all tensors as f32, which no type exceeds.
  std::size_t bytes() const {
    const std::size_t n_embd = (std::size_t)m_.n_embd, n_ff = (std::size_t)m_.n_ff;
    const std::size_t q = (std::size_t)m_.n_head * (std::size_t)m_.d_k,
                      o = (std::size_t)m_.n_head * (std::size_t)m_.d_v;
    const std::size_t kv = (std::size_t)m_.n_head_kv * (std::size_t)(m_.d_k + m_.d_v);
    const std::size_t networks = (std::size_t)std::max(m_.n_expert, 1);
    const std::size_t shared = 3 * n_embd * (std::size_t)m_.n_ff_shared;
    const std::size_t layer = n_embd * (q + o + kv + 3 * networks * n_ff + networks + 6) + 3 * q + 2 * kv + shared +
                              networks * (3 * n_ff + n_embd + 1);
    std::size_t odd = 0;
    for (const auto& [name, shape] : m_.shapes) {
      std::size_t n = 1;
      for (const std::int64_t d : shape) n *= (std::size_t)d;
      odd += n;
    }
    const std::size_t floats = (std::size_t)m_.n_layer * layer + 2 * n_embd * (std::size_t)m_.n_vocab + 4096 + odd;
    return floats * sizeof(float) + (ggml_tensor_overhead() + 64) * (std::size_t)(32 * m_.n_layer + 8);
  }

  void metadata() {
    gguf_context* g = file_.get();
    const std::string p = m_.architecture + ".";
    const auto number = [&](const char* key, int value) {
      gguf_set_val_u32(g, (p + key).c_str(), (std::uint32_t)value);
    };
    const auto real = [&](const char* key, double value) {
      if (value != 0) gguf_set_val_f32(g, (p + key).c_str(), (float)value);
    };
    gguf_set_val_str(g, "general.architecture", m_.architecture.c_str());
    gguf_set_val_str(g, "general.name", "tiny random model");
    number("block_count", m_.n_layer);
    number("context_length", m_.n_ctx_train);
    number("embedding_length", m_.n_embd);
    number("feed_forward_length", m_.n_ff);
    number("attention.head_count", m_.n_head);
    number("attention.head_count_kv", m_.n_head_kv);
    number("attention.key_length", m_.d_k);
    number("attention.value_length", m_.d_v);
    number("rope.dimension_count", n_rot());
    number("vocab_size", m_.n_vocab);
    real("attention.layer_norm_rms_epsilon", 1e-5);
    real("rope.freq_base", m_.rope_freq_base);
    real("rope.freq_base_swa", m_.rope_freq_base_sliding);
    const std::string scaling = m_.rope_linear_factor > 0 ? "linear" : m_.rope_scaling;
    if (!scaling.empty()) gguf_set_val_str(g, (p + "rope.scaling.type").c_str(), scaling.c_str());
    real("rope.scaling.factor", m_.rope_linear_factor + m_.rope_scaling_factor);
    real("rope.scaling.attn_factor", m_.rope_attn_factor);
    if (m_.n_ctx_orig > 0) number("rope.scaling.original_context_length", m_.n_ctx_orig);
    if (m_.rope_finetuned) gguf_set_val_bool(g, (p + "rope.scaling.finetuned").c_str(), *m_.rope_finetuned);
    if (m_.window > 0) number("attention.sliding_window", m_.window);
    if (!m_.slides.empty()) {
      const std::vector<std::int8_t> flags(m_.slides.begin(), m_.slides.end());
      gguf_set_arr_data(g, (p + "attention.sliding_window_pattern").c_str(), GGUF_TYPE_BOOL, flags.data(),
                        flags.size());
    }
    real("attn_logit_softcapping", m_.attention_softcap);
    real("final_logit_softcapping", m_.output_softcap);
    if (m_.n_expert > 0) {
      number("expert_count", m_.n_expert);
      number("expert_used_count", m_.n_expert_used);
      if (!is("llama") && !granite()) number("expert_feed_forward_length", m_.n_ff);
      if (m_.n_ff_shared > 0) number("expert_shared_feed_forward_length", m_.n_ff_shared);
    }
    real("logit_scale", m_.logit_scale);
    real("residual_scale", m_.residual_scale);
    real("embedding_scale", m_.embedding_scale);
    real("attention.scale", m_.attention_scale);

    const Vocabulary v = vocabulary(m_.n_vocab);
    std::vector<const char*> tokens;
    for (const std::string& token : v.tokens) tokens.push_back(token.c_str());
    gguf_set_val_str(g, "tokenizer.ggml.model", "llama");
    gguf_set_arr_str(g, "tokenizer.ggml.tokens", tokens.data(), tokens.size());
    gguf_set_arr_data(g, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, v.scores.data(), v.scores.size());
    gguf_set_arr_data(g, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, v.types.data(), v.types.size());
    gguf_set_val_u32(g, "tokenizer.ggml.unknown_token_id", 0);
    gguf_set_val_u32(g, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(g, "tokenizer.ggml.eos_token_id", 2);
  }

  // Deviations keep every sum near 1, but those of q and k: attention logits deviate by about 3, so that few entries
  // get most of a row and policies have something to choose.
  void tensors() {
    const float model = 1.0f / std::sqrt((float)m_.n_embd);
    const float peaky = std::sqrt(3.0f) * model;
    // Gemma multiplies it by the root of its width, Granite by what the file says.
    const float embedded = gemma() ? model : m_.embedding_scale > 0 ? 1 / m_.embedding_scale : 1;
    matrix("token_embd.weight", m_.n_embd, m_.n_vocab, embedded);
    for (int i = 0; i < m_.n_layer; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      if (norm_before()) vector(p + "attn_norm.weight", m_.n_embd, 1, 0.1f);
      attention(p, model, peaky);
      if (norm_after()) vector(p + "post_attention_norm.weight", m_.n_embd, 0.5f, 0.1f);
      if (norm_before())
        vector(p + (is("gpt-oss") ? "post_attention_norm" : "ffn_norm") + ".weight", m_.n_embd, 1, 0.1f);
      if (m_.n_expert > 0) {
        experts(p, model);
      } else {
        feed_forward(p, model);
      }
      // ggml's GELU rounds to f16, so that a last bit before it is a thousandth after it, in libllama's own logits too
      // when they are computed token by token: little of it goes on.
      if (norm_after()) vector(p + "post_ffw_norm.weight", m_.n_embd, gemma() ? 0.03f : 0.5f, 0.01f);
    }
    // Logits deviate by about 3.
    const float logits = 3 * (m_.logit_scale > 0 ? m_.logit_scale : 1);
    vector("output_norm.weight", m_.n_embd, logits * (m_.tied ? model / embedded : 1), 0.1f * model);
    if (!m_.tied) matrix("output.weight", m_.n_embd, m_.n_vocab, model);
    // As in Llama 3.x: high frequencies stay, low ones are slowed down by up to 8.
    if (m_.rope_factors) factors("rope_freqs.weight", 7);
    if (m_.long_short_factors) factors("rope_factors_long.weight", 20), factors("rope_factors_short.weight", 0.5f);
  }

  void attention(const std::string& p, float model, float peaky) {
    const int q = m_.n_head * m_.d_k, k = m_.n_head_kv * m_.d_k, v = m_.n_head_kv * m_.d_v;
    if (is("phi3")) {
      matrix(p + "attn_qkv.weight", m_.n_embd, q + k + v, peaky);
    } else {
      linear(p + "attn_q", m_.n_embd, q, peaky, m_.biases);
      linear(p + "attn_k", m_.n_embd, k, peaky, m_.biases);
      linear(p + "attn_v", m_.n_embd, v, model, m_.biases);
    }
    // Normed queries and keys deviate by 1: what makes attention peaky is then here.
    if (head_norm()) {
      vector(p + "attn_q_norm.weight", m_.d_k, 1.7f, 0.1f);
      vector(p + "attn_k_norm.weight", m_.d_k, 1.7f, 0.1f);
    }
    if (is("olmo2")) {
      vector(p + "attn_q_norm.weight", q, 1.7f, 0.1f);
      vector(p + "attn_k_norm.weight", k, 1.7f, 0.1f);
    }
    if (is("gpt-oss")) vector(p + "attn_sinks.weight", m_.n_head, 1, 2);
    const int n_in = m_.n_head * m_.d_v;
    linear(p + "attn_output", n_in, m_.n_embd, 1.0f / std::sqrt((float)n_in), m_.biases && output_bias());
  }

  void feed_forward(const std::string& p, float model) {
    const bool joined = is("phi3");
    if (!joined) matrix(p + "ffn_gate.weight", m_.n_embd, m_.n_ff, model);
    matrix(p + "ffn_up.weight", m_.n_embd, joined ? 2 * m_.n_ff : m_.n_ff, model);
    matrix(p + "ffn_down.weight", m_.n_ff, m_.n_embd, 1.0f / std::sqrt((float)m_.n_ff));
  }

  void experts(const std::string& p, float model) {
    const auto each = [&](const char* name, int n_in, int n_out) {
      random(tensor(p + name + ".weight", {n_in, n_out, m_.n_expert}, m_.weights), 0, 1.0f / std::sqrt((float)n_in));
      if (!is("gpt-oss")) return;
      random(tensor(p + name + ".bias", {n_out, m_.n_expert}, GGML_TYPE_F32), 0, 0.3f);
    };
    linear(p + "ffn_gate_inp", m_.n_embd, m_.n_expert, 2 * model, is("gpt-oss"));
    each("ffn_gate_exps", m_.n_embd, m_.n_ff);
    each("ffn_up_exps", m_.n_embd, m_.n_ff);
    each("ffn_down_exps", m_.n_ff, m_.n_embd);
    if (m_.n_ff_shared == 0) return;
    matrix(p + "ffn_gate_shexp.weight", m_.n_embd, m_.n_ff_shared, model);
    matrix(p + "ffn_up_shexp.weight", m_.n_embd, m_.n_ff_shared, model);
    matrix(p + "ffn_down_shexp.weight", m_.n_ff_shared, m_.n_embd, 1.0f / std::sqrt((float)m_.n_ff_shared));
  }

  void factors(const char* name, float most) {
    ggml_tensor* t = tensor(name, {n_rot() / 2}, GGML_TYPE_F32);
    for (std::int64_t j = 0; t && j < t->ne[0]; ++j) {
      ((float*)t->data)[j] = 1 + most * (float)j / (float)t->ne[0];
    }
    add(t);
  }

  void linear(const std::string& name, int n_in, int n_out, float deviation, bool bias) {
    matrix(name + ".weight", n_in, n_out, deviation);
    if (bias) vector(name + ".bias", n_out, 0, 0.3f);
  }
  void matrix(const std::string& name, int n_in, int n_out, float deviation) {
    random(tensor(name, {n_in, n_out}, m_.weights), 0, deviation);
  }
  void vector(const std::string& name, int n, float mean, float deviation) {
    random(tensor(name, {n}, GGML_TYPE_F32), mean, deviation);
  }

  ggml_tensor* tensor(const std::string& name, std::vector<std::int64_t> shape, ggml_type type) {
    if (const auto other = m_.shapes.find(name); other != m_.shapes.end()) shape = other->second;
    if (const auto other = m_.types.find(name); other != m_.types.end()) type = other->second;
    if (shape.empty()) return nullptr;
    ggml_tensor* t = ggml_new_tensor(context_.get(), type, (int)shape.size(), shape.data());
    ggml_set_name(t, name.c_str());
    return t;
  }

  void random(ggml_tensor* t, float mean, float deviation) {
    if (!t) return;
    std::vector<float> values((std::size_t)ggml_nelements(t));
    for (float& value : values) value = mean + deviation * random_.bell();
    if (m_.change) m_.change(t->name, values, t->ne[0]);
    if (t->type == GGML_TYPE_F32) {
      if (ggml_n_dims(t) > 1) round(values, t->ne[0]);
      std::memcpy(t->data, values.data(), values.size() * sizeof(float));
    } else if (ggml_get_type_traits(t->type)->from_float_ref) {
      ggml_quantize_chunk(t->type, values.data(), t->data, 0, ggml_nelements(t) / t->ne[0], t->ne[0], nullptr);
    } else {
      std::memset(t->data, 0, ggml_nbytes(t));  // integers: no weights, only for files that are to be refused
    }
    add(t);
  }

  void round(std::vector<float>& values, std::int64_t row) const {
    if (m_.rounded == GGML_TYPE_F32) return;
    const std::int64_t n = (std::int64_t)values.size();
    std::vector<std::byte> stored(ggml_row_size(m_.rounded, n));
    ggml_quantize_chunk(m_.rounded, values.data(), stored.data(), 0, n / row, row, nullptr);
    ggml_get_type_traits(m_.rounded)->to_float(stored.data(), values.data(), n);
  }

  void add(const ggml_tensor* t) {
    if (t) gguf_add_tensor(part(n_added_++ % (others_.size() + 1)), t);
  }

  int n_rot() const { return m_.n_rot > 0 ? m_.n_rot : m_.d_k; }

  const TinyModel& m_;
  Random random_;
  gguf_context_ptr file_;
  std::vector<gguf_context_ptr> others_;
  std::size_t n_added_ = 0;
  ggml_context_ptr context_;
};

}  // namespace

ModelFile::ModelFile(const TinyModel& model) {
  static std::atomic<int> count = 0;
  const std::string name = "lacake-tiny-" + std::to_string(::getpid()) + "-" + std::to_string(count++);
  const std::string start = (std::filesystem::temp_directory_path() / name).string();
  for (int i = 1; i <= model.n_files; ++i) {
    char ending[32] = "";
    if (model.n_files > 1) std::snprintf(ending, sizeof ending, "-%05d-of-%05d", i, model.n_files);
    paths_.push_back(start + ending + ".gguf");
  }
  path_ = paths_[0];
  Writer(model).write(paths_);
}

ModelFile::~ModelFile() {
  std::error_code ignored;
  for (const std::string& path : paths_) std::filesystem::remove(path, ignored);
}

std::vector<std::int32_t> random_tokens(const TinyModel& model, std::size_t n, unsigned seed) {
  Random random(seed + 1000);
  const int first = kSpecial + kBytes, n_letters = model.n_vocab - first;
  std::vector<std::int32_t> tokens;
  for (std::size_t i = 0; i < n; ++i) {
    const bool again = i >= 8 && random.bits() % 4 == 0;
    tokens.push_back(again ? tokens[i - 1 - random.bits() % 8]
                           : (std::int32_t)(first + (int)(random.bits() % (std::uint32_t)n_letters)));
  }
  return tokens;
}

}  // namespace lacake::models
