#include "eval/json_lines.h"

#include <fmt/format.h>

#include <algorithm>

#include "lacake/error.h"

namespace lacake::eval {
namespace {

// nlohmann's own words, without its error number and the position, which the line's number replaces.
std::string reason(const nlohmann::json::parse_error& error) {
  std::string what = error.what();
  if (const std::size_t at = what.find("parse error at "); at != std::string::npos) what = what.substr(at);
  if (const std::size_t at = what.find("column "); at != std::string::npos) what = what.substr(at);
  std::replace_if(
      what.begin(), what.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return fmt::format("not JSON: {}", what);
}

}  // namespace

JsonLines parse_json_lines(std::string_view name, std::string_view text, BadLine bad) {
  JsonLines result;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Error::Fields wrong = {.subject = fmt::format("{}:{}", name, number)};
    try {
      nlohmann::json value = nlohmann::json::parse(line);
      if (value.is_object()) {
        result.lines.push_back({number, std::move(value)});
        continue;
      }
      wrong.expected = "a JSON object", wrong.found = value.type_name();
    } catch (const nlohmann::json::parse_error& error) {
      wrong.found = reason(error);
    }
    const Error error(wrong);
    if (bad == BadLine::kStop) throw error;
    result.skipped.emplace_back(error.what());
  }
  return result;
}

}  // namespace lacake::eval
