#include "model/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#define XXH_INLINE_ALL
#include "model/loaded_model.h"
#include "xxhash.h"

namespace lacake {
namespace {

constexpr std::size_t kPiece = std::size_t(1) << 20;  // bytes

class Hash {
 public:
  Hash() { XXH3_128bits_reset(&state_); }
  void bytes(const void* data, std::size_t n) {
    length(n);
    XXH3_128bits_update(&state_, data, n);
  }
  // The same in pieces: first how many bytes come, so that two values are not one.
  void length(std::uint64_t n) { XXH3_128bits_update(&state_, &n, sizeof n); }
  void piece(std::span<const std::byte> bytes) { XXH3_128bits_update(&state_, bytes.data(), bytes.size()); }
  void text(std::string_view text) { bytes(text.data(), text.size()); }
  template <class Number>
  void number(Number value) {
    bytes(&value, sizeof value);
  }
  std::string digits() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(&state_);
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  XXH3_state_t state_;
};

std::size_t bytes_of(gguf_type type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
      return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
      return 2;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
      return 8;
    default:
      return 4;
  }
}

// Keys that say nothing of what the model computes.
bool describes(std::string_view key) {
  return (key.starts_with("general.") && key != "general.architecture") || key.starts_with("split.") ||
         key.starts_with("tokenizer.chat_template");
}

void add_metadata(Hash& hash, const gguf_context* g) {
  std::vector<std::string> keys;
  for (std::int64_t i = 0; i < gguf_get_n_kv(g); ++i) {
    if (const char* key = gguf_get_key(g, i); !describes(key)) keys.emplace_back(key);
  }
  std::sort(keys.begin(), keys.end());
  for (const std::string& key : keys) {
    const std::int64_t id = gguf_find_key(g, key.c_str());
    const gguf_type type = gguf_get_kv_type(g, id);
    hash.text(key);
    hash.number(type);
    if (type == GGUF_TYPE_STRING) {
      hash.text(gguf_get_val_str(g, id));
    } else if (type != GGUF_TYPE_ARRAY) {
      hash.bytes(gguf_get_val_data(g, id), bytes_of(type));
    } else if (gguf_get_arr_type(g, id) == GGUF_TYPE_STRING) {
      for (std::size_t i = 0; i < gguf_get_arr_n(g, id); ++i) hash.text(gguf_get_arr_str(g, id, i));
    } else {
      hash.bytes(gguf_get_arr_data(g, id), gguf_get_arr_n(g, id) * bytes_of(gguf_get_arr_type(g, id)));
    }
  }
}

void add_tensors(Hash& hash, const GgufFile& file) {
  std::vector<std::string> names = file.tensor_names();
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const ggml_tensor* tensor = file.tensor(name);
    hash.text(name);
    hash.number(tensor->type);
    hash.bytes(tensor->ne, sizeof tensor->ne);
    hash.length(ggml_nbytes(tensor));
    // An embedding is larger than many a KV cache: no more of it is resident at once than a piece.
    const std::span<const std::byte> all((const std::byte*)file.data(tensor), ggml_nbytes(tensor));
    for (std::size_t first = 0; first < all.size(); first += kPiece) {
      const std::span<const std::byte> piece = all.subspan(first, std::min(kPiece, all.size() - first));
      hash.piece(piece);
      file.forget(piece);
    }
  }
}

}  // namespace

std::string fingerprint(const LoadedModel& model) {
  Hash hash;
  add_metadata(hash, model.file.metadata());
  add_tensors(hash, model.file);
  // What options made of the metadata.
  for (const RopeParameters& rope : model.hyperparameters.ropes) {
    for (const float value : {rope.freq_base, rope.freq_scale, rope.ext_factor, rope.attn_factor, rope.beta_fast,
                              rope.beta_slow, (float)rope.n_ctx_orig}) {
      hash.number(value);
    }
  }
  hash.number(model.hyperparameters.long_factors);
  for (const Lora& lora : model.loras) {
    add_metadata(hash, lora.file().metadata());
    add_tensors(hash, lora.file());
    hash.number(lora.scale());
  }
  return hash.digits();
}

}  // namespace lacake
