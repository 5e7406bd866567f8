// All kinds of policies: those of policies.def, and those that programs register.

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "lacake/error.h"
#include "lacake/policy_author.h"
#include "policies/parameters.h"
#include "policies/pinned.h"

namespace lacake {

#define LACAKE_POLICY(name) const PolicyType& name##_policy();
#include "policies/policies.def"
#undef LACAKE_POLICY

namespace {

using Kind = PolicyParameter::Kind;

// With what every kind has that drops entries.
PolicyType complete(PolicyType type) {
  const auto has_it = [](const PolicyParameter& p) { return p.name == kPinned; };
  const bool has = std::any_of(type.parameters.begin(), type.parameters.end(), has_it);
  return type.bounded && !has ? with_pinned(std::move(type)) : type;
}

struct Registry {
  std::mutex mutex;
  std::vector<std::shared_ptr<const PolicyType>> types = {
#define LACAKE_POLICY(name) std::make_shared<const PolicyType>(complete(name##_policy())),
#include "policies/policies.def"
#undef LACAKE_POLICY
  };
};

// Never destroyed: kinds live as long as the process, whatever is destroyed at its end.
Registry& registry() {
  static Registry& all = *new Registry;
  return all;
}

bool is_name(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed);
}

void check_parameter(const PolicyType& type, const PolicyParameter& parameter) {
  const auto refuse = [&](std::string expected, std::string found) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = policy_subject(type.name),
                 .expected = std::move(expected),
                 .found = std::move(found)});
  };
  const std::string word = "letters, digits, '_' and '-'";
  if (!is_name(parameter.name)) refuse("names of parameters of " + word, quoted(parameter.name));
  if (parameter.name == "cache_size") refuse("another name than cache_size for a parameter", quoted(parameter.name));
  const auto same_name = [&](const PolicyParameter& p) { return p.name == parameter.name; };
  if (std::count_if(type.parameters.begin(), type.parameters.end(), same_name) > 1) {
    refuse("every parameter once", quoted(parameter.name) + " twice");
  }
  for (const std::string& w : parameter.words) {
    if (!is_name(w)) refuse("words of " + word + " for " + parameter.name, quoted(w));
  }
  // That no file is the default is what "" says.
  const bool no_file = parameter.kind == Kind::kFile && parameter.default_value == PolicyValue("");
  if (!no_file) check_value(type.name, parameter, parameter.default_value);
}

void check_type(const PolicyType& type) {
  const auto refuse = [&](std::string subject, std::string expected, std::string found) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = std::move(subject),
                 .expected = std::move(expected),
                 .found = std::move(found)});
  };
  if (!is_name(type.name)) refuse("policy", "a name of letters, digits, '_' and '-'", quoted(type.name));
  if (!type.max_entries_per_layer || !type.min_cache_size || !type.make) {
    refuse(policy_subject(type.name), "max_entries_per_layer, min_cache_size and make", "one of them empty");
  }
  for (const PolicyParameter& parameter : type.parameters) check_parameter(type, parameter);
}

}  // namespace

std::vector<std::reference_wrapper<const PolicyType>> policy_types() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::vector<std::reference_wrapper<const PolicyType>> types;
  for (const auto& type : all.types) types.emplace_back(*type);
  return types;
}

std::shared_ptr<const PolicyType> find_policy_type(std::string_view name) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = std::find_if(all.types.begin(), all.types.end(), [&](const auto& t) { return t->name == name; });
  return found == all.types.end() ? nullptr : *found;
}

void register_policy(PolicyType type) {
  check_type(type);
  auto added = std::make_shared<const PolicyType>(complete(std::move(type)));
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (std::any_of(all.types.begin(), all.types.end(), [&](const auto& t) { return t->name == added->name; })) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "policy",
                 .expected = "a name that no other policy has",
                 .found = quoted(added->name)});
  }
  all.types.push_back(std::move(added));
}

}  // namespace lacake
