#pragma once

// A file of named parts, each with a checksum, that is either whole or refused.
//
// It is a GGUF file, so that every tool for GGUF shows what is in it: metadata by key, parts as tensors. Its last
// tensor is `checksums`, 64-bit integers [2, n + 2 or n + 3], of which a row is the XXH3 of 128 bits, low half first:
//
//     row 0           of all bytes before the first tensor
//     rows 1 .. n     of the n parts, in the file's order
//     (a row of zeros where the number of rows would be odd)
//     the last two    the number of bytes that row 0 is of, n;
//                     the XXH3 of 64 bits of all rows before this one and of what follows here: "lacakeKV"
//
// The file ends with it, so that a reader finds and checks it before it believes anything else.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ggml-cpp.h"
#include "gguf.h"

namespace lacake {

// Collects metadata and parts and writes them. Parts are asked for their bytes one after the other while the file is
// written, so no more than one of them is in memory beside what it is made of.
//
// One thread at a time.
class PartsWriter {
 public:
  using Fill = std::function<void(std::span<std::byte> to)>;

  PartsWriter();

  void set(const std::string& key, const std::string& value);
  void set(const std::string& key, const char* value) { set(key, std::string(value)); }
  void set(const std::string& key, std::uint64_t value);
  void set(const std::string& key, double value);
  void set(const std::string& key, bool value);

  // A part of this shape (ggml order, four dimensions at most). `fill` is called once a write.
  void add(const std::string& name, ggml_type type, std::span<const std::int64_t> shape, Fill fill);
  // A list, kept until the file is written.
  template <class Number>
  void add(const std::string& name, std::vector<Number> values) {
    const std::int64_t n = (std::int64_t)values.size();
    add(name, type_of<Number>(), {&n, 1}, [values = std::move(values)](std::span<std::byte> to) {
      if (!to.empty()) std::memcpy(to.data(), values.data(), to.size());
    });
  }
  // A list in the smallest of 8, 16, 32 and 64 bits that holds all of it.
  void add_integers(const std::string& name, std::span<const std::int64_t> values);
  // A list of small numbers among which a few are large: each is folded to a number that is not negative (0, -1, 1, -2
  // become 0, 1, 2, 3) and written in groups of seven bits, low ones first, of which all but the last have the eighth
  // bit set (LEB128). REQUIRES: none of 2^62 or more on either side of 0.
  void add_varints(const std::string& name, std::span<const std::int64_t> values);
  void add_text(const std::string& name, std::string_view text);

  // The whole new file or the old one (base/files.h). Throws Error(kInput) naming the file.
  void write(const std::string& path) const;
  std::uint64_t bytes() const;  // of the file that write() makes
  // The same bytes, piece by piece, to whatever takes them.
  void write_to(const std::function<void(std::string_view bytes)>& sink) const;

  template <class Number>
  static constexpr ggml_type type_of() {
    if constexpr (std::is_same_v<Number, float>) return GGML_TYPE_F32;
    if constexpr (std::is_same_v<Number, double>) return GGML_TYPE_F64;
    if constexpr (std::is_same_v<Number, std::int64_t>) return GGML_TYPE_I64;
    if constexpr (std::is_same_v<Number, std::int32_t>) return GGML_TYPE_I32;
    if constexpr (std::is_same_v<Number, std::int16_t>) return GGML_TYPE_I16;
    if constexpr (std::is_same_v<Number, std::int8_t>) return GGML_TYPE_I8;
  }

 private:
  struct Part {
    std::string name;
    ggml_type type;
    std::vector<std::int64_t> shape;
    std::uint64_t bytes;
    Fill fill;
  };
  gguf_context_ptr header() const;
  gguf_context_ptr metadata_;
  std::vector<Part> parts_;
};

// A part of an open file; lives as long as the file.
struct FilePart {
  ggml_type type = GGML_TYPE_COUNT;
  std::vector<std::int64_t> shape;  // ggml order, without trailing ones, one number at least
  std::span<const std::byte> bytes;
};

// An open file, mapped, of which every byte that has a meaning was checked. Everything that throws throws Error(kInput)
// whose subject is the file and the key or part.
//
// Const members may be called by several threads at once.
class PartsFile {
 public:
  // Throws Error(kInput): no such file, no file of parts ("expected WHAT"), one that is cut short or damaged (which
  // part).
  static constexpr const char* kConversation = "a conversation that lacake saved";
  explicit PartsFile(const std::string& path, const std::string& what = kConversation);
  // The same of the file's bytes, which are copied; `name` stands for it in errors.
  PartsFile(std::string_view bytes, const std::string& name);
  ~PartsFile();
  PartsFile(PartsFile&&) noexcept;
  PartsFile& operator=(PartsFile&&) noexcept;

  const std::string& path() const;
  std::uint64_t bytes() const;  // of the file

  bool has(const std::string& key) const;
  std::string text(const std::string& key) const;
  bool flag(const std::string& key) const;
  double real(const std::string& key) const;  // finite
  // In [least, most].
  std::uint64_t number(const std::string& key, std::uint64_t least, std::uint64_t most) const;

  bool has_part(const std::string& name) const;
  FilePart part(const std::string& name) const;
  // A part of this type with these many elements.
  FilePart part(const std::string& name, ggml_type type, std::uint64_t n) const;
  template <class Number>
  std::vector<Number> list(const std::string& name) const {
    const FilePart part = this->part(name);
    require_type(name, part, PartsWriter::type_of<Number>());
    std::vector<Number> values(part.bytes.size() / sizeof(Number));
    if (!values.empty()) std::memcpy(values.data(), part.bytes.data(), part.bytes.size());
    return values;
  }
  // What add_integers wrote.
  std::vector<std::int64_t> integers(const std::string& name) const;
  // What add_varints wrote.
  std::vector<std::int64_t> varints(const std::string& name) const;
  std::string part_text(const std::string& name) const;
  std::vector<std::string> part_names() const;

  // These throw: about the file, or about a key or "part NAME" in it.
  [[noreturn]] void fail(const std::string& found) const;
  [[noreturn]] void fail(const std::string& what, const std::string& expected, const std::string& found) const;

 private:
  void open(const std::string& what);
  std::int64_t find(const std::string& key, gguf_type type) const;
  void require_type(const std::string& name, const FilePart& part, ggml_type type) const;
  struct State;
  std::unique_ptr<State> state_;
};

// For tests and fuzzing: makes the checksums of a file's bytes right again after they were changed, so that what lies
// behind them is reached. False if they end in no checksums.
bool seal(std::span<std::byte> file);

}  // namespace lacake
