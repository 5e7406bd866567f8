#include "golden/golden_files.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "tools/paths.h"

namespace lacake::golden {

std::filesystem::path folder() {
  const char* named = std::getenv("LACAKE_GOLDEN_DIR");
  return named != nullptr && *named != '\0' ? std::string(named) : default_golden_dir();
}

std::vector<std::filesystem::path> files(const std::string& extension) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    if (entry.path().extension() == extension) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

Archive::Archive(const std::filesystem::path& path) : name_(path.filename().string()) {
  ggml_context* tensors = nullptr;
  gguf_.reset(gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &tensors}));
  tensors_.reset(tensors);
  if (!gguf_) throw std::runtime_error(name_ + ": not a GGUF file");
}

std::string Archive::architecture() const {
  const std::int64_t key = gguf_find_key(gguf_.get(), "general.architecture");
  return key < 0 ? "" : gguf_get_val_str(gguf_.get(), key);
}

bool Archive::has_key(const std::string& key) const { return gguf_find_key(gguf_.get(), key.c_str()) >= 0; }

bool Archive::has(const std::string& tensor) const { return gguf_find_tensor(gguf_.get(), tensor.c_str()) >= 0; }

std::string Archive::text(const std::string& key) const {
  const std::int64_t id = gguf_find_key(gguf_.get(), key.c_str());
  if (id < 0 || gguf_get_kv_type(gguf_.get(), id) != GGUF_TYPE_STRING) {
    throw std::runtime_error(name_ + ": no text " + key);
  }
  return gguf_get_val_str(gguf_.get(), id);
}

double Archive::number(const std::string& key) const {
  const gguf_context* gguf = gguf_.get();
  const std::int64_t id = gguf_find_key(gguf, key.c_str());
  if (id < 0) throw std::runtime_error(name_ + ": no key " + key);
  switch (gguf_get_kv_type(gguf, id)) {
    case GGUF_TYPE_BOOL:
      return gguf_get_val_bool(gguf, id) ? 1 : 0;
    case GGUF_TYPE_UINT8:
      return gguf_get_val_u8(gguf, id);
    case GGUF_TYPE_INT8:
      return gguf_get_val_i8(gguf, id);
    case GGUF_TYPE_UINT16:
      return gguf_get_val_u16(gguf, id);
    case GGUF_TYPE_INT16:
      return gguf_get_val_i16(gguf, id);
    case GGUF_TYPE_UINT32:
      return gguf_get_val_u32(gguf, id);
    case GGUF_TYPE_INT32:
      return gguf_get_val_i32(gguf, id);
    case GGUF_TYPE_UINT64:
      return (double)gguf_get_val_u64(gguf, id);
    case GGUF_TYPE_INT64:
      return (double)gguf_get_val_i64(gguf, id);
    case GGUF_TYPE_FLOAT32:
      return gguf_get_val_f32(gguf, id);
    case GGUF_TYPE_FLOAT64:
      return gguf_get_val_f64(gguf, id);
    default:
      throw std::runtime_error(name_ + ": key " + key + " is not a number");
  }
}

const ggml_tensor* Archive::tensor(const std::string& name, ggml_type type) const {
  const ggml_tensor* found = ggml_get_tensor(tensors_.get(), name.c_str());
  if (found == nullptr || found->type != type) {
    throw std::runtime_error(name_ + ": expected tensor " + name + " of type " + ggml_type_name(type) + ", found " +
                             (found == nullptr ? "none" : ggml_type_name(found->type)));
  }
  return found;
}

std::span<const float> Archive::f32(const std::string& name) const {
  const ggml_tensor* t = tensor(name, GGML_TYPE_F32);
  return {static_cast<const float*>(t->data), (std::size_t)ggml_nelements(t)};
}

std::span<const std::int32_t> Archive::i32(const std::string& name) const {
  const ggml_tensor* t = tensor(name, GGML_TYPE_I32);
  return {static_cast<const std::int32_t*>(t->data), (std::size_t)ggml_nelements(t)};
}

std::span<const std::int8_t> Archive::i8(const std::string& name) const {
  const ggml_tensor* t = tensor(name, GGML_TYPE_I8);
  return {static_cast<const std::int8_t*>(t->data), (std::size_t)ggml_nelements(t)};
}

std::size_t Archive::row_size(const std::string& name) const {
  return (std::size_t)ggml_get_tensor(tensors_.get(), name.c_str())->ne[0];
}

}  // namespace lacake::golden
