#pragma once

// The golden files of one folder: LACAKE_GOLDEN_DIR if set, else the one that comes with the tests. Files are known by
// what is in them, so that more can be checked without a change here.

#include <gguf.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "ggml-cpp.h"

namespace lacake::golden {

std::filesystem::path folder();

// All files of the folder with this extension (".json", ".gguf"), by name.
std::vector<std::filesystem::path> files(const std::string& extension);

nlohmann::json read_json(const std::filesystem::path& path);

// A GGUF file of architecture `golden`, read whole.
class Archive {
 public:
  explicit Archive(const std::filesystem::path& path);

  std::string architecture() const;
  bool has_key(const std::string& key) const;
  bool has(const std::string& tensor) const;

  std::string text(const std::string& key) const;
  // Metadata of any numeric or boolean type.
  double number(const std::string& key) const;
  std::size_t size(const std::string& key) const { return (std::size_t)number(key); }

  std::span<const float> f32(const std::string& tensor) const;
  std::span<const std::int32_t> i32(const std::string& tensor) const;
  std::span<const std::int8_t> i8(const std::string& tensor) const;

  // ne[0], the fastest dimension.
  std::size_t row_size(const std::string& tensor) const;

 private:
  const ggml_tensor* tensor(const std::string& name, ggml_type type) const;

  std::string name_;
  gguf_context_ptr gguf_;
  ggml_context_ptr tensors_;
};

}  // namespace lacake::golden
