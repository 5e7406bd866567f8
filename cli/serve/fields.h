#pragma once

// Fields of a JSON body, each looked at under its name: one that is not what it should be is refused by it, one that
// nobody asks for is ignored.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lacake::cli {

// The JSON of a body: an object. Throws Error(kUsage): no JSON, invalid UTF-8, deeper than 64 levels.
nlohmann::json parse_body(std::string_view body);

[[noreturn]] void refuse_field(const std::string& name, const std::string& expected, const nlohmann::json& found);

// Borrows the object. Null counts as not there. Members throw Error(kUsage) naming the field.
class Fields {
 public:
  explicit Fields(const nlohmann::json& object, std::string where = "") : object_(object), where_(std::move(where)) {}

  const nlohmann::json* find(const char* name) const;
  std::string path(const char* name) const { return where_ + name; }

  std::optional<double> real(const char* name, double least, double most) const;
  std::optional<std::int64_t> whole(const char* name, std::int64_t least, std::int64_t most) const;
  std::optional<bool> flag(const char* name) const;
  std::optional<std::string> text(const char* name) const;
  // One that must be there, if only as "".
  std::string needed_text(const char* name) const;
  const nlohmann::json* object(const char* name) const;
  const nlohmann::json* list(const char* name) const;
  // One text, or a list of them.
  std::vector<std::string> texts(const char* name) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace lacake::cli
