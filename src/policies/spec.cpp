// `NAME[:key=value,...]`: from text to PolicySpec and back.

#include <algorithm>
#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lacake/error.h"
#include "lacake/policy_author.h"
#include "policies/parameters.h"

namespace lacake {
namespace {

constexpr std::string_view kCacheSize = "cache_size";

// 2^53: the largest range in which a double counts without gaps.
constexpr double kLargestCount = 9007199254740992.0;

[[noreturn]] void refuse(std::string subject, std::string expected, std::string found, std::string remedy = "") {
  throw Error({.kind = Error::Kind::kUsage,
               .subject = std::move(subject),
               .expected = std::move(expected),
               .found = std::move(found),
               .remedy = std::move(remedy)});
}

std::shared_ptr<const PolicyType> require_type(std::string_view name) {
  if (auto type = find_policy_type(name)) return type;
  std::vector<std::string> known;
  for (const PolicyType& type : policy_types()) known.push_back(type.name);
  refuse("policy", "one of " + joined(known), name.empty() ? "no name" : quoted(name), did_you_mean(name, known));
}

const PolicyParameter& require_parameter(const PolicyType& type, std::string_view key) {
  std::vector<std::string> known;
  for (const PolicyParameter& parameter : type.parameters) {
    if (parameter.name == key) return parameter;
    known.push_back(parameter.name);
  }
  if (type.bounded) known.emplace_back(kCacheSize);
  refuse(policy_subject(type.name), known.empty() ? "no parameters" : "one of the parameters " + joined(known),
         quoted(key), did_you_mean(key, known));
}

std::size_t parse_cache_size(const PolicyType& type, std::string_view text) {
  const PolicyParameter parameter{.name = std::string(kCacheSize),
                                  .kind = PolicyParameter::Kind::kWholeNumber,
                                  .default_value = 1,
                                  .min = 1,
                                  .max = kLargestCount,
                                  .help = ""};
  return (std::size_t)parse_value(type.name, parameter, text).number();
}

// A value with its quotes, as it begins `text`: how many characters it has, npos if its quotes are never closed.
std::size_t value_length(std::string_view text) {
  if (!text.starts_with('"')) return std::min(text.find(','), text.size());
  for (std::size_t at = 1;; at += 2) {
    at = text.find('"', at);
    if (at == text.npos) return text.npos;
    if (text.substr(at + 1, 1) != "\"") return at + 1;
  }
}

std::string without_quotes(std::string_view value) {
  if (!value.starts_with('"')) return std::string(value);
  std::string text;
  for (std::size_t i = 1; i + 1 < value.size(); ++i) {
    text += value[i];
    if (value[i] == '"') ++i;
  }
  return text;
}

std::string with_quotes_if_needed(const std::string& value) {
  if (!value.starts_with('"') && value.find(',') == value.npos) return value;
  std::string text = "\"";
  for (const char c : value) text.append(c == '"' ? 2 : 1, c);
  return text + "\"";
}

void add_setting(PolicySpec& spec, std::string_view key, std::string_view value) {
  const PolicyType& type = *spec.type;
  const auto refuse_second = [&] {
    refuse(policy_subject(type.name), "every parameter once at most", quoted(key) + " twice");
  };
  if (key == kCacheSize && type.bounded) {
    if (spec.cache_size != 0) refuse_second();
    spec.cache_size = parse_cache_size(type, value);
    return;
  }
  const PolicyParameter& parameter = require_parameter(type, key);
  if (!spec.settings.emplace(parameter.name, parse_value(type.name, parameter, value)).second) refuse_second();
}

}  // namespace

PolicySpec PolicySpec::parse(std::string_view text) {
  const std::size_t colon = text.find(':');
  PolicySpec spec;
  spec.type = require_type(text.substr(0, colon));
  if (colon == text.npos) return spec;

  const std::string_view list = text.substr(colon + 1);
  const auto refuse_list = [&] {
    refuse(policy_subject(spec.type->name), "key=value[,key=value...] after the colon",
           list.empty() ? "nothing" : quoted(list));
  };
  std::string_view rest = list;
  for (bool more = true; more;) {
    const std::size_t equals = rest.substr(0, rest.find(',')).find('=');
    if (equals == rest.npos) refuse_list();
    const std::string_view key = rest.substr(0, equals);
    rest.remove_prefix(equals + 1);
    const std::size_t length = value_length(rest);
    if (length == rest.npos) {
      refuse(policy_subject(spec.type->name), "a closing quote after " + std::string(key) + "=", quoted(rest));
    }
    const std::string value = without_quotes(rest.substr(0, length));
    rest.remove_prefix(length);
    more = rest.starts_with(',');
    if (more) rest.remove_prefix(1);
    if (!more && !rest.empty()) refuse_list();
    add_setting(spec, key, value);
  }
  return spec;
}

std::string PolicySpec::text() const {
  std::string text = type->name;
  char separator = ':';
  const auto add = [&](std::string_view key, const std::string& value) {
    text += std::exchange(separator, ',');
    text.append(key).append("=").append(value);
  };
  // In the order of the registry, so that two ways to say the same give the same text.
  for (const PolicyParameter& parameter : type->parameters) {
    const auto given = settings.find(parameter.name);
    if (given != settings.end()) add(parameter.name, with_quotes_if_needed(value_text(given->second)));
  }
  if (cache_size != 0) add(kCacheSize, std::to_string(cache_size));
  return text;
}

void PolicySpec::check() const {
  assert(type);
  for (const auto& [name, value] : settings) check_value(type->name, require_parameter(*type, name), value);
}

Positions PolicySpec::positions(const AttentionShape& shape) const {
  return type->make(settings, shape, type->min_cache_size(settings, shape))->traits().positions;
}

std::vector<std::string> PolicySpec::split(std::string_view list) {
  std::vector<std::string> policies;
  for (bool more = true; more;) {
    const std::size_t special = list.find_first_of(",:=");
    const bool setting = special != list.npos && list[special] == '=';
    const std::size_t equals = list.substr(0, list.find(',')).find('=');
    std::size_t length = equals == list.npos ? 0 : equals + 1;
    const std::size_t value = value_length(list.substr(length));
    length = value == list.npos ? list.size() : length + value;
    // What follows closed quotes is left to parse.
    length = std::min(list.find(',', length), list.size());
    if (setting && !policies.empty()) {
      policies.back().append(",").append(list.substr(0, length));
    } else {
      policies.emplace_back(list.substr(0, length));
    }
    more = length < list.size();
    list.remove_prefix(more ? length + 1 : length);
  }
  return policies;
}

}  // namespace lacake
