#include "models/tiny_model.h"

#include <unistd.h>

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

  void write(const std::string& path) {
    metadata();
    tensors();
    if (m_.edit) m_.edit(file_.get());
    if (!gguf_write_to_file(file_.get(), path.c_str(), /*only_meta*/ false)) {
      throw std::runtime_error(path + ": cannot be written");
    }
  }

 private:
  // Of all tensors as f32, which no type exceeds.
  std::size_t bytes() const {
    const std::size_t n_embd = (std::size_t)m_.n_embd, n_ff = (std::size_t)m_.n_ff;
    const std::size_t q = (std::size_t)m_.n_head * (std::size_t)m_.d_k,
                      o = (std::size_t)m_.n_head * (std::size_t)m_.d_v;
    const std::size_t kv = (std::size_t)m_.n_head_kv * (std::size_t)(m_.d_k + m_.d_v);
    const std::size_t layer = n_embd * (q + o + kv + 3 * n_ff + 3) + q + kv;
    std::size_t odd = 0;
    for (const auto& [name, shape] : m_.shapes) {
      std::size_t n = 1;
      for (const std::int64_t d : shape) n *= (std::size_t)d;
      odd += n;
    }
    const std::size_t floats = (std::size_t)m_.n_layer * layer + 2 * n_embd * (std::size_t)m_.n_vocab + 4096 + odd;
    return floats * sizeof(float) + (ggml_tensor_overhead() + 64) * (std::size_t)(16 * m_.n_layer + 8);
  }

  void metadata() {
    gguf_context* g = file_.get();
    const auto number = [&](const char* key, int value) {
      gguf_set_val_u32(g, (std::string("llama.") + key).c_str(), (std::uint32_t)value);
    };
    gguf_set_val_str(g, "general.architecture", "llama");
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
    gguf_set_val_f32(g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_set_val_f32(g, "llama.rope.freq_base", m_.rope_freq_base);
    if (m_.rope_linear_factor > 0) {
      gguf_set_val_str(g, "llama.rope.scaling.type", "linear");
      gguf_set_val_f32(g, "llama.rope.scaling.factor", (float)m_.rope_linear_factor);
    }

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
    matrix("token_embd.weight", m_.n_embd, m_.n_vocab, 1);
    for (int i = 0; i < m_.n_layer; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      vector(p + "attn_norm.weight", m_.n_embd, 1, 0.1f);
      linear(p + "attn_q", m_.n_embd, m_.n_head * m_.d_k, peaky);
      linear(p + "attn_k", m_.n_embd, m_.n_head_kv * m_.d_k, peaky);
      linear(p + "attn_v", m_.n_embd, m_.n_head_kv * m_.d_v, model);
      linear(p + "attn_output", m_.n_head * m_.d_v, m_.n_embd, 1.0f / std::sqrt((float)(m_.n_head * m_.d_v)));
      vector(p + "ffn_norm.weight", m_.n_embd, 1, 0.1f);
      matrix(p + "ffn_gate.weight", m_.n_embd, m_.n_ff, model);
      matrix(p + "ffn_up.weight", m_.n_embd, m_.n_ff, model);
      matrix(p + "ffn_down.weight", m_.n_ff, m_.n_embd, 1.0f / std::sqrt((float)m_.n_ff));
    }
    // Logits deviate by about 3.
    vector("output_norm.weight", m_.n_embd, m_.tied ? 3 * model : 3, 0.1f * model);
    if (!m_.tied) matrix("output.weight", m_.n_embd, m_.n_vocab, model);
    if (m_.rope_factors) {
      ggml_tensor* factors = tensor("rope_freqs.weight", {n_rot() / 2}, GGML_TYPE_F32);
      // As in Llama 3.x: high frequencies stay, low ones are slowed down by up to 8.
      for (std::int64_t j = 0; factors && j < factors->ne[0]; ++j) {
        ((float*)factors->data)[j] = 1 + 7 * (float)j / (float)factors->ne[0];
      }
      add(factors);
    }
  }

  void linear(const std::string& name, int n_in, int n_out, float deviation) {
    matrix(name + ".weight", n_in, n_out, deviation);
    if (m_.biases) vector(name + ".bias", n_out, 0, 0.3f);
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
    if (t->type == GGML_TYPE_F32) {
      std::memcpy(t->data, values.data(), values.size() * sizeof(float));
    } else if (ggml_get_type_traits(t->type)->from_float_ref) {
      ggml_quantize_chunk(t->type, values.data(), t->data, 0, ggml_nelements(t) / t->ne[0], t->ne[0], nullptr);
    } else {
      std::memset(t->data, 0, ggml_nbytes(t));  // integers: no weights, only for files that are to be refused
    }
    add(t);
  }

  void add(const ggml_tensor* t) {
    if (t) gguf_add_tensor(file_.get(), t);
  }

  int n_rot() const { return m_.n_rot > 0 ? m_.n_rot : m_.d_k; }

  const TinyModel& m_;
  Random random_;
  gguf_context_ptr file_;
  ggml_context_ptr context_;
};

}  // namespace

ModelFile::ModelFile(const TinyModel& model) {
  static std::atomic<int> count = 0;
  const std::string name = "lacake-tiny-" + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".gguf";
  path_ = (std::filesystem::temp_directory_path() / name).string();
  Writer(model).write(path_);
}

ModelFile::~ModelFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
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
