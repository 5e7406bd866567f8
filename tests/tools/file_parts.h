#pragma once

// A file's bytes taken apart, to be changed and put together again.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ggml.h"

namespace lacake {

struct EditedPart {
  std::string name;
  ggml_type type = GGML_TYPE_I8;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

struct FileParts {
  using Value = std::variant<std::string, std::uint64_t, double, bool>;
  std::vector<std::pair<std::string, Value>> metadata;
  std::vector<EditedPart> parts;
};

// None where the bytes are no file of parts.
std::optional<FileParts> take_apart(std::span<const std::byte> file);
std::string put_together(const FileParts& parts);

}  // namespace lacake
