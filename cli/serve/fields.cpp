#include "serve/fields.h"

#include <fmt/format.h>

#include <cmath>

#include "lacake/error.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

constexpr int kDeepest = 64;

// What was found, short enough for a line.
std::string shown(const json& found) {
  constexpr std::size_t kLongest = 60;
  if (found.is_null()) return "none";
  if (found.is_object()) return "an object";
  if (found.is_array()) return found.empty() ? "an empty list" : "a list";
  std::string text = found.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

}  // namespace

void refuse_field(const std::string& name, const std::string& expected, const json& found) {
  throw Error({.kind = Error::Kind::kUsage, .subject = name, .expected = expected, .found = shown(found)});
}

json parse_body(std::string_view body) {
  bool deep = false;
  json parsed;
  try {
    parsed = json::parse(body, [&](int depth, json::parse_event_t, json&) {
      deep = deep || depth > kDeepest;
      return !deep;
    });
  } catch (const json::exception& error) {
    std::string what = error.what();
    what = what.substr(what.find("] ") == what.npos ? 0 : what.find("] ") + 2);
    for (char& c : what) c = (unsigned char)c < ' ' || (unsigned char)c > '~' ? '?' : c;
    throw Error({.kind = Error::Kind::kUsage, .subject = "body", .expected = "JSON", .found = what.substr(0, 160)});
  }
  if (deep) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "body",
                 .expected = fmt::format("JSON of at most {} levels", kDeepest),
                 .found = "more"});
  }
  if (!parsed.is_object()) refuse_field("body", "a JSON object", parsed);
  return parsed;
}

const json* Fields::find(const char* name) const {
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

std::optional<double> Fields::real(const char* name, double least, double most) const {
  const json* const value = find(name);
  if (!value) return {};
  const bool fits = value->is_number() && value->get<double>() >= least && value->get<double>() <= most;
  if (!fits) refuse_field(path(name), fmt::format("a number from {} to {}", least, most), *value);
  return value->get<double>();
}

std::optional<std::int64_t> Fields::whole(const char* name, std::int64_t least, std::int64_t most) const {
  const json* const value = find(name);
  if (!value) return {};
  const double number = value->is_number() ? value->get<double>() : NAN;
  const bool fits = number == std::floor(number) && number >= (double)least && number <= (double)most;
  if (!fits) refuse_field(path(name), fmt::format("a whole number from {} to {}", least, most), *value);
  return value->is_number_float() ? (std::int64_t)number : value->get<std::int64_t>();
}

std::optional<bool> Fields::flag(const char* name) const {
  const json* const value = find(name);
  if (!value) return {};
  if (!value->is_boolean()) refuse_field(path(name), "true or false", *value);
  return value->get<bool>();
}

std::optional<std::string> Fields::text(const char* name) const {
  const json* const value = find(name);
  if (!value) return {};
  if (!value->is_string()) refuse_field(path(name), "a text", *value);
  return value->get<std::string>();
}

std::string Fields::needed_text(const char* name) const {
  const auto value = text(name);
  if (!value) refuse_field(path(name), "a text", json());
  return *value;
}

const json* Fields::object(const char* name) const {
  const json* const value = find(name);
  if (value && !value->is_object()) refuse_field(path(name), "an object", *value);
  return value;
}

const json* Fields::list(const char* name) const {
  const json* const value = find(name);
  if (value && !value->is_array()) refuse_field(path(name), "a list", *value);
  return value;
}

std::vector<std::string> Fields::texts(const char* name) const {
  const json* const value = find(name);
  if (!value) return {};
  if (value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> all;
  if (!value->is_array()) refuse_field(path(name), "a text or a list of texts", *value);
  for (const json& one : *value) {
    if (!one.is_string()) refuse_field(path(name), "a text or a list of texts", one);
    all.push_back(one.get<std::string>());
  }
  return all;
}

}  // namespace lacake::cli
