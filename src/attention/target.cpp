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

#include "attention/pairs_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

bool uses_vnni() { return LACAKE_ATTENTION_VNNI == 1; }

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(target_name);
HWY_EXPORT(uses_vnni);

namespace {

bool has_vnni() {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC
  static const bool has = __builtin_cpu_supports("avx512vnni");
  return has;
#else
  return false;
#endif
}

}  // namespace

const char* target_name() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

bool has_int16() { return !HWY_DYNAMIC_DISPATCH(uses_vnni)() || has_vnni(); }
bool has_fast_int16() { return HWY_DYNAMIC_DISPATCH(uses_vnni)() && has_vnni(); }

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
