#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "lacake/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/target.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(target_name);

const char* target_name() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

namespace {
// As this machine has them, whatever is disabled later.
const std::vector<std::int64_t>& targets() {
  static const std::vector<std::int64_t> all = hwy::SupportedAndGeneratedTargets();
  return all;
}
}  // namespace

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const std::int64_t target : targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

void use_target_of_environment() {
  const char* wanted = std::getenv("LACAKE_TARGET");
  if (!wanted || !*wanted) return;
  const std::vector<std::string> names = target_names();
  const auto found = std::find(names.begin(), names.end(), wanted);
  if (found == names.end()) {
    throw Error(Error::Kind::kUsage,
                fmt::format("LACAKE_TARGET: expected one of {}, found \"{}\"", fmt::join(names, ", "), wanted));
  }
  hwy::DisableTargets(~targets()[(std::size_t)(found - names.begin())]);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
