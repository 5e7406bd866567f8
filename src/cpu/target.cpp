#include "cpu/target.h"

#include <atomic>
#include <cstdint>

#include "cpu/matrix_unit.h"
#include "hwy/targets.h"

#if HWY_ARCH_X86 && HWY_COMPILER_GCC  // clang included
#define LACAKE_ASKS_CPUID 1
#include <cpuid.h>
#else
#define LACAKE_ASKS_CPUID 0
#endif

namespace lacake::cpu {
namespace {

// Highway numbers its targets so that of one architecture the better one is less.
constexpr bool reaches(std::int64_t target, std::int64_t wanted) { return HWY_ARCH_X86 && target <= wanted; }

bool has_avx512_vnni() {
#if LACAKE_ASKS_CPUID
  return __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

// Not every compiler knows this one by name.
bool has_avx_vnni() {
#if LACAKE_ASKS_CPUID
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
#else
  return false;
#endif
}

struct Target {
  std::string name;
  std::int64_t vectors;  // Highway's
  bool matrix_unit = false, avx512_vnni = false, avx_vnni = false;
};

std::vector<Target> ask() {
  std::vector<Target> all;
  for (const std::int64_t vectors : hwy::SupportedAndGeneratedTargets()) {
    Target target{.name = hwy::TargetName(vectors), .vectors = vectors};
    target.avx512_vnni = reaches(vectors, HWY_AVX3) && has_avx512_vnni();
    Target more = target;
    if (all.empty() && target.avx512_vnni && has_matrix_unit()) {
      more.name = "AMX";
      more.matrix_unit = true;
      all.push_back(more);
    } else if (vectors == HWY_AVX2 && has_avx_vnni()) {
      more.name = "AVX_VNNI";
      more.avx_vnni = true;
      all.push_back(more);
    }
    all.push_back(std::move(target));
  }
  return all;
}

// As this machine has them, whatever is disabled later.
const std::vector<Target>& targets() {
  static const std::vector<Target> all = ask();
  return all;
}

std::atomic<const Target*> chosen = nullptr;  // null: the best one

const Target& in_use() {
  const Target* target = chosen.load(std::memory_order_relaxed);
  return target ? *target : targets().front();
}

}  // namespace

const char* target_name() { return in_use().name.c_str(); }

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const Target& target : targets()) names.push_back(target.name);
  return names;
}

void use_target(std::string_view name) {
  for (const Target& target : targets()) {
    if (target.name != name) continue;
    chosen = &target;
    hwy::DisableTargets(~target.vectors);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

bool uses_matrix_unit() { return in_use().matrix_unit; }
bool uses_avx512() { return reaches(in_use().vectors, HWY_AVX3); }
bool uses_avx512_vnni() { return in_use().avx512_vnni; }
bool uses_avx_vnni() { return in_use().avx_vnni; }
bool uses_avx2() { return reaches(in_use().vectors, HWY_AVX2); }

}  // namespace lacake::cpu
