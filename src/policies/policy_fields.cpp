#include <algorithm>

#include "lacake/policy_author.h"

namespace lacake {

void PolicyFields::number(std::string_view name, std::size_t& value, std::size_t least, std::size_t most) {
  constexpr std::size_t kMost = INT64_MAX;
  auto whole = (std::int64_t)std::min(value, kMost);
  number(name, whole, (std::int64_t)std::min(least, kMost), (std::int64_t)std::min(most, kMost));
  value = (std::size_t)whole;
}

}  // namespace lacake
