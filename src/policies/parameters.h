#pragma once

// Parameters of policies: checked, read from text and written as text, and how a policy of the library reads its own.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/policy_author.h"

namespace lacake {

// "policy NAME": what errors about one are about.
std::string policy_subject(std::string_view name);

// 'text', for what was found.
std::string quoted(std::string_view text);
// "a, b, c"
std::string joined(const std::vector<std::string>& words);
// "did you mean 'x'?", "" if nothing is near.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known);

// A value as a user wrote it, without quotes. Throws Error(kUsage) if the parameter cannot have it.
PolicyValue parse_value(std::string_view policy, const PolicyParameter&, std::string_view text);
// Throws the same for a value that did not come from a text.
void check_value(std::string_view policy, const PolicyParameter&, const PolicyValue&);
// Parses to the same: the shortest number, a word, a path.
std::string value_text(const PolicyValue&);

// --- a policy's own settings -----------------------------------------------------------------------------------------

inline PolicyValue setting(const PolicyType& type, const PolicySettings& settings, std::string_view name) {
  return setting(type.parameters, settings, name);
}
inline double number_setting(const PolicyType& type, const PolicySettings& settings, std::string_view name) {
  return number_setting(type.parameters, settings, name);
}
inline std::size_t size_setting(const PolicyType& type, const PolicySettings& settings, std::string_view name) {
  return size_setting(type.parameters, settings, name);
}
// Is this the word that was chosen?
inline bool has_word(const PolicyType& type, const PolicySettings& settings, std::string_view name,
                     std::string_view word) {
  return text_setting(type.parameters, settings, name) == word;
}

// Throws Error(kUsage) where the model has no learned scores.
void require_calibration(const PolicyType&, const AttentionShape&);

// Holds the caller to PolicyType::min_cache_size, and returns it: what the policy's resize is held to later.
std::size_t require_cache_size(const PolicyType&, const PolicySettings&, const AttentionShape&, std::size_t cache_size);

}  // namespace lacake
