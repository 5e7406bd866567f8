// `NAME[:key=value,...]`: from text to PolicySpec and back.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/nearest.h"
#include "lacake/error.h"
#include "lacake/policy.h"

namespace lacake {
namespace {

constexpr std::string_view kCacheSize = "cache_size";

// 2^53: the largest range in which a double counts without gaps.
constexpr double kLargestCount = 9007199254740992.0;

[[noreturn]] void fail(const std::string& message) { throw Error(Error::Kind::kUsage, message); }

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string quoted(std::string_view text) {
  // Not operator+: GCC 12 sees an overlap there that cannot be (-Wrestrict, GCC bug 105329).
  std::string result(1, '\'');
  return result.append(text).append(1, '\'');
}

std::string suggestion(std::string_view name, const std::vector<std::string>& known) {
  const std::string near = nearest(name, known);
  return (near.empty() ? "" : ", did you mean " + quoted(near) + "?") + " (known: " + joined(known) + ")";
}

// Shortest text that reads back to the same double.
std::string number_text(double value) {
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

const PolicyType& find_type(std::string_view name) {
  std::vector<std::string> known;
  for (const PolicyType& type : policy_types()) {
    if (type.name == name) return type;
    known.push_back(type.name);
  }
  if (name.empty()) fail("--policy: no policy named, expected one of: " + joined(known));
  fail("--policy: unknown policy " + quoted(name) + suggestion(name, known));
}

[[noreturn]] void fail_unknown_parameter(const PolicyType& type, std::string_view key) {
  std::vector<std::string> known;
  for (const PolicyParameter& parameter : type.parameters) known.push_back(parameter.name);
  if (type.bounded) known.emplace_back(kCacheSize);
  const std::string unknown = "--policy " + type.name + ": unknown parameter " + quoted(key);
  if (known.empty()) fail(unknown + ", it takes none");
  fail(unknown + suggestion(key, known));
}

double parse_value(const PolicyType& type, const PolicyParameter& parameter, std::string_view text) {
  const std::string where = "--policy " + type.name + ": " + parameter.name + "=";
  if (!parameter.choices.empty()) {
    const auto choice = std::find(parameter.choices.begin(), parameter.choices.end(), text);
    if (choice != parameter.choices.end()) return static_cast<double>(choice - parameter.choices.begin());
    fail(where + " expected one of: " + joined(parameter.choices) + "; found " + quoted(text));
  }
  const std::optional<double> value = parse_number(text);
  const bool usable = value && *value >= parameter.min && *value <= parameter.max &&
                      (!parameter.integer || *value == std::floor(*value));
  if (usable) return *value;
  fail(where + " expected " + (parameter.integer ? "a whole number" : "a number") + " from " +
       number_text(parameter.min) + " to " + number_text(parameter.max) + ", found " + quoted(text));
}

std::size_t parse_cache_size(const PolicyType& type, std::string_view text) {
  const PolicyParameter parameter{.name = std::string(kCacheSize), .min = 1, .max = kLargestCount, .integer = true};
  return static_cast<std::size_t>(parse_value(type, parameter, text));
}

}  // namespace

PolicySpec PolicySpec::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  PolicySpec spec;
  spec.type = &find_type(text.substr(0, colon));
  const PolicyType& type = *spec.type;

  std::string_view rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (colon != std::string_view::npos && rest.empty()) {
    fail("--policy " + type.name + ": expected key=value after ':', found nothing");
  }
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const bool more = comma != std::string_view::npos;
    rest = more ? rest.substr(comma + 1) : std::string_view();
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos || (more && rest.empty())) {
      fail("--policy " + type.name + ": expected key=value[,key=value...], found " + quoted(text.substr(colon + 1)));
    }
    const std::string_view key = item.substr(0, equals);
    const std::string_view value = item.substr(equals + 1);

    if (key == kCacheSize && type.bounded) {
      if (spec.cache_size != 0) fail("--policy " + type.name + ": parameter 'cache_size' is given twice");
      spec.cache_size = parse_cache_size(type, value);
      continue;
    }
    const auto parameter = std::find_if(type.parameters.begin(), type.parameters.end(),
                                        [&](const PolicyParameter& p) { return p.name == key; });
    if (parameter == type.parameters.end()) fail_unknown_parameter(type, key);
    if (!spec.settings.emplace(parameter->name, parse_value(type, *parameter, value)).second) {
      fail("--policy " + type.name + ": parameter " + quoted(key) + " is given twice");
    }
  }
  return spec;
}

std::string PolicySpec::text() const {
  std::string text = type->name;
  char separator = ':';
  auto add = [&](const std::string& key, const std::string& value) {
    text += std::exchange(separator, ',') + key + "=" + value;
  };
  // In the order of the registry, so that two ways to say the same give the same text.
  for (const PolicyParameter& parameter : type->parameters) {
    const auto given = settings.find(parameter.name);
    if (given == settings.end()) continue;
    const bool word = !parameter.choices.empty();
    add(parameter.name,
        word ? parameter.choices.at(static_cast<std::size_t>(given->second)) : number_text(given->second));
  }
  if (cache_size != 0) add(std::string(kCacheSize), std::to_string(cache_size));
  return text;
}

}  // namespace lacake
