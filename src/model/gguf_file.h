#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "ggml-cpp.h"
#include "gguf.h"
#include "lacake/model.h"

namespace lacake {

// A GGUF file: its metadata, and its tensors as descriptions over the mapped file. A model that was split into several
// files (NAME-00001-of-00003.gguf) is opened by its first, and is one. Opening checks everything that can be checked
// without reading weights: a file that opens has all its bytes. Errors name the file and the key or tensor.
class GgufFile {
 public:
  // `overrides` replace metadata, or add to them.
  explicit GgufFile(std::string path, std::span<const MetadataOverride> overrides = {});
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return path_; }

  // Metadata. Integers of any width are read as one kind, and so are floats; a value of another kind is an error.

  bool has(const std::string& key) const { return find(key) >= 0; }
  std::optional<std::int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<std::string> string(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;

  // A list of whole numbers or truth values; empty if the key is not there or holds one value.
  std::vector<std::int64_t> integers(const std::string& key) const;
  // A list of strings, which live as long as the file; empty if the key is not there.
  std::vector<const char*> strings(const std::string& key) const;

  // Within [min, max], or an error that says so. Without a default the key must be there.
  std::int64_t integer_in(const std::string& key, std::int64_t min, std::int64_t max,
                          std::optional<std::int64_t> default_value = {}) const;
  double number_in(const std::string& key, double min, double max, std::optional<double> default_value = {}) const;

  // Tensors.

  // The description (type, shape, name) of a tensor without data, or null. Lives as long as the file.
  ggml_tensor* tensor(const std::string& name) const;
  // Its bytes in the mapping.
  std::byte* data(const ggml_tensor* tensor) const { return place(tensor).data; }
  // The metadata as a whole, overrides among them.
  const gguf_context* metadata() const { return parts_[0].gguf.get(); }
  std::size_t n_tensors() const { return names_.size(); }
  const std::vector<std::string>& tensor_names() const { return names_; }

  // The files: one, or as many as the model was split into.
  std::size_t n_parts() const { return parts_.size(); }
  std::span<const std::byte> mapping(std::size_t part) const { return parts_[part].mapping->bytes(); }
  std::size_t part_of(const ggml_tensor* tensor) const { return place(tensor).part; }
  // Tells the system that these mapped bytes will not be read again soon: they leave resident memory.
  void forget(const ggml_tensor* tensor) const;
  void forget(std::span<const std::byte> bytes) const;
  // And so of all bytes: what was mapped beside a tensor that was read (read-ahead, whole folios) leaves too.
  void forget_all() const;

  // Throws Error(kUsage) about override_kv for an override that nobody has asked for: it changed nothing. To be called
  // when all that is read has been read; keys of the tokenizer are libllama's to read.
  void check_overrides_read() const;

  // These throw Error(kInput) about this file, or about a key or "tensor NAME" in it.
  [[noreturn]] void fail(const std::string& found) const;
  [[noreturn]] void fail(const std::string& key, const std::string& expected, const std::string& found,
                         const std::string& remedy = "") const;

 private:
  struct Part {
    std::unique_ptr<MappedFile> mapping;
    gguf_context_ptr gguf;
    ggml_context_ptr tensors;
  };
  struct Place {
    ggml_tensor* described = nullptr;
    std::size_t part = 0;
    std::byte* data = nullptr;
  };
  std::int64_t find(const std::string& key) const;
  const Place& place(const ggml_tensor* tensor) const { return places_.at(tensor->name); }
  void open_part(const std::string& path);
  void open_others();
  void apply(const MetadataOverride&);

  std::string path_;
  std::vector<Part> parts_;               // the first holds the metadata
  mutable std::set<std::string> unread_;  // keys of overrides
  std::vector<std::string> names_;
  std::unordered_map<std::string, Place> places_;
};

}  // namespace lacake
