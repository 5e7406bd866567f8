#include "policies/parameters.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/nearest.h"
#include "lacake/error.h"

namespace lacake {
namespace {

using Kind = PolicyParameter::Kind;

// Shortest text that reads back to the same double.
std::string number_text(double value) {
  char buffer[32];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool usable(const PolicyParameter& parameter, const PolicyValue& value) {
  const bool is_number = parameter.kind == Kind::kNumber || parameter.kind == Kind::kWholeNumber;
  if (value.is_number() != is_number) return false;
  if (is_number) {
    const double x = value.number();
    return x >= parameter.min && x <= parameter.max && (parameter.kind == Kind::kNumber || x == std::floor(x));
  }
  if (parameter.kind == Kind::kFile) return !value.text().empty();
  return std::find(parameter.words.begin(), parameter.words.end(), value.text()) != parameter.words.end();
}

std::string expectation(const PolicyParameter& parameter) {
  const std::string range = " from " + number_text(parameter.min) + " to " + number_text(parameter.max);
  switch (parameter.kind) {
    case Kind::kNumber:
      return parameter.name + " to be a number" + range;
    case Kind::kWholeNumber:
      return parameter.name + " to be a whole number" + range;
    case Kind::kWord:
      return parameter.name + " to be one of " + joined(parameter.words);
    case Kind::kFile:
      return parameter.name + " to be the path of a file";
  }
  return "";
}

[[noreturn]] void refuse(std::string_view policy, const PolicyParameter& parameter, std::string_view found) {
  throw Error({.kind = Error::Kind::kUsage,
               .subject = policy_subject(policy),
               .expected = expectation(parameter),
               .found = quoted(found)});
}

}  // namespace

std::string policy_subject(std::string_view name) { return std::string("policy ").append(name); }

std::string quoted(std::string_view text) {
  // Not operator+: GCC 12 sees an overlap there that cannot be (-Wrestrict, GCC bug 105329).
  std::string result(1, '\'');
  return result.append(text).append(1, '\'');
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
  const std::string near = nearest(name, known);
  return near.empty() ? "" : "did you mean " + quoted(near) + "?";
}

std::string value_text(const PolicyValue& value) {
  return value.is_number() ? number_text(value.number()) : value.text();
}

void check_value(std::string_view policy, const PolicyParameter& parameter, const PolicyValue& value) {
  if (!usable(parameter, value)) refuse(policy, parameter, value_text(value));
}

PolicyValue parse_value(std::string_view policy, const PolicyParameter& parameter, std::string_view text) {
  PolicyValue value = text;
  if (parameter.kind == Kind::kNumber || parameter.kind == Kind::kWholeNumber) {
    const std::optional<double> number = parse_number(text);
    if (!number) refuse(policy, parameter, text);
    value = *number;
  }
  if (!usable(parameter, value)) refuse(policy, parameter, text);
  return value;
}

PolicyValue setting(std::span<const PolicyParameter> parameters, const PolicySettings& settings,
                    std::string_view name) {
  if (const auto given = settings.find(name); given != settings.end()) return given->second;
  const auto declared =
      std::find_if(parameters.begin(), parameters.end(), [&](const PolicyParameter& p) { return p.name == name; });
  assert(declared != parameters.end() && "a policy asks for a parameter that it does not declare");
  return declared->default_value;
}

double number_setting(std::span<const PolicyParameter> parameters, const PolicySettings& settings,
                      std::string_view name) {
  return setting(parameters, settings, name).number();
}

std::size_t size_setting(std::span<const PolicyParameter> parameters, const PolicySettings& settings,
                         std::string_view name) {
  return (std::size_t)number_setting(parameters, settings, name);
}

std::string text_setting(std::span<const PolicyParameter> parameters, const PolicySettings& settings,
                         std::string_view name) {
  return setting(parameters, settings, name).text();
}

void require_cache_size(std::string_view policy, std::size_t least, std::size_t cache_size) {
  if (cache_size >= least) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = policy_subject(policy),
               .expected = "a cache size of at least " + std::to_string(least) + " entries a layer",
               .found = std::to_string(cache_size)});
}

void require_calibration(const PolicyType& type, const AttentionShape& shape) {
  if (shape.calibration != 0) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = policy_subject(type.name),
               .expected = "a model with learned scores (`calibration`)",
               .found = "none",
               .remedy = "lacake calibrate makes them from any text"});
}

std::size_t require_cache_size(const PolicyType& type, const PolicySettings& settings, const AttentionShape& shape,
                               std::size_t cache_size) {
  const std::size_t least = type.min_cache_size(settings, shape);
  require_cache_size(type.name, least, cache_size);
  return least;
}

}  // namespace lacake
