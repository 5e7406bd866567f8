#include <fmt/format.h>

#include <charconv>

#include "lacake/error.h"
#include "lacake/model.h"

namespace lacake {
namespace {

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

}  // namespace

MetadataOverride MetadataOverride::parse(std::string_view text) {
  const std::size_t equals = text.find('='), colon = text.find(':', equals);
  if (equals != std::string_view::npos && equals > 0 && colon != std::string_view::npos) {
    const std::string_view type = text.substr(equals + 1, colon - equals - 1), value = text.substr(colon + 1);
    MetadataOverride o{.key = std::string(text.substr(0, equals))};
    if (type == "str") {
      o.value = std::string(value);
      return o;
    }
    if (type == "bool" && (value == "true" || value == "false")) {
      o.value = value == "true";
      return o;
    }
    if (const auto whole = parse_number<std::int64_t>(value); type == "int" && whole) {
      o.value = *whole;
      return o;
    }
    if (const auto real = parse_number<double>(value); type == "float" && real) {
      o.value = *real;
      return o;
    }
  }
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "override_kv",
               .expected = "KEY=TYPE:VALUE with TYPE int, float, bool or str",
               .found = fmt::format("\"{}\"", text)});
}

}  // namespace lacake
