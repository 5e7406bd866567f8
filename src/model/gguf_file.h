#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ggml-cpp.h"
#include "gguf.h"

namespace lacake {

// A GGUF file: its metadata, and its tensors as descriptions over the mapped file. Opening checks everything that can
// be checked without reading weights: a file that opens has all its bytes. Errors name the file and the key or tensor.
class GgufFile {
 public:
  explicit GgufFile(std::string path);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return path_; }

  // --- metadata: integers of any width are read as one kind, so are floats; a value of another kind is an error
  // -------
  bool has(const std::string& key) const { return gguf_find_key(gguf_.get(), key.c_str()) >= 0; }
  std::optional<std::int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<std::string> string(const std::string& key) const;

  // A list of strings, which live as long as the file; empty if the key is not there.
  std::vector<const char*> strings(const std::string& key) const;

  // Within [min, max], or an error that says so. Without a default the key must be there.
  std::int64_t integer_in(const std::string& key, std::int64_t min, std::int64_t max,
                          std::optional<std::int64_t> default_value = {}) const;
  double number_in(const std::string& key, double min, double max, std::optional<double> default_value = {}) const;

  // --- tensors
  // -------------------------------------------------------------------------------------------------------- The
  // description (type, shape, name) of a tensor without data, or null. Lives as long as the file.
  ggml_tensor* tensor(const std::string& name) const;
  // Its bytes in the mapping.
  std::byte* data(const ggml_tensor* tensor) const;
  std::size_t n_tensors() const { return (std::size_t)gguf_get_n_tensors(gguf_.get()); }
  std::vector<std::string> tensor_names() const;

  std::byte* mapping() const { return mapping_; }
  std::size_t mapping_bytes() const { return mapping_bytes_; }
  // Tells the system that these mapped bytes will not be read again soon: they leave resident memory.
  void forget(const ggml_tensor* tensor) const;

  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::int64_t find(const std::string& key) const { return gguf_find_key(gguf_.get(), key.c_str()); }

  std::string path_;
  gguf_context_ptr gguf_;
  ggml_context_ptr tensors_;
  std::byte* mapping_ = nullptr;
  std::size_t mapping_bytes_ = 0;
};

}  // namespace lacake
