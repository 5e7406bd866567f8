#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "cpu/matrix_unit.h"
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

constexpr const char* kMatrixUnit = "AMX";
std::atomic<bool> matrix_unit_allowed = true;

// As this machine has them, whatever is disabled later.
const std::vector<std::int64_t>& targets() {
  static const std::vector<std::int64_t> all = hwy::SupportedAndGeneratedTargets();
  return all;
}

// The target that a matrix unit adds to, or 0.
std::int64_t beside_matrix_unit() {
  return cpu::has_matrix_unit() && has_vnni() && targets().front() <= HWY_AVX3 ? targets().front() : 0;
}

}  // namespace

const char* target_name() { return uses_matrix_unit() ? kMatrixUnit : HWY_DYNAMIC_DISPATCH(target_name)(); }

bool has_int16() { return !HWY_DYNAMIC_DISPATCH(uses_vnni)() || has_vnni(); }
bool has_fast_int16() { return HWY_DYNAMIC_DISPATCH(uses_vnni)() && has_vnni(); }
bool uses_matrix_unit() { return matrix_unit_allowed && has_fast_int16() && cpu::has_matrix_unit(); }

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  if (beside_matrix_unit()) names.emplace_back(kMatrixUnit);
  for (const std::int64_t target : targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

void use_target(std::string_view name) {
  matrix_unit_allowed = name == kMatrixUnit;
  std::int64_t wanted = beside_matrix_unit();
  for (const std::int64_t target : targets()) {
    if (name == hwy::TargetName(target)) wanted = target;
  }
  hwy::DisableTargets(~wanted);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

void use_target_of_environment() {
  const char* wanted = std::getenv("LACAKE_TARGET");
  if (!wanted || !*wanted) return;
  const std::vector<std::string> names = target_names();
  if (std::find(names.begin(), names.end(), wanted) == names.end()) {
    throw Error(Error::Kind::kUsage,
                fmt::format("LACAKE_TARGET: expected one of {}, found \"{}\"", fmt::join(names, ", "), wanted));
  }
  use_target(wanted);
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
