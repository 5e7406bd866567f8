#include "cpu/target.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "engine/test_session.h"
#include "targets/every_target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/target_test.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::cpu::HWY_NAMESPACE {
const char* compiled_for() { return hwy::TargetName(HWY_TARGET); }
}  // namespace lacake::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::cpu {

HWY_EXPORT(compiled_for);

namespace {

// Sets LACAKE_TARGET while it lives.
class Environment {
 public:
  explicit Environment(const std::string& value) {
    if (const char* given = std::getenv("LACAKE_TARGET")) before_ = given;
    setenv("LACAKE_TARGET", value.c_str(), 1);
  }
  ~Environment() { setenv("LACAKE_TARGET", before_.c_str(), 1); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  std::string before_;  // empty: as if it weren't set
};

TEST(Target, IsTheOneThatTheEnvironmentNames) {
  const TinyModel tiny = small();
  const ModelFile file(tiny);
  for (const std::string& name : target_names()) {
    const Environment environment(name);
    const Model model(file.path());
    EXPECT_EQ(target_name(), name);
  }
  use_target(target_names().front());
}

TEST(Target, AnUnknownNameIsRefusedWithThoseOfTheMachine) {
  const TinyModel tiny = small();
  const ModelFile file(tiny);
  const Environment environment("AVX9");
  const std::string message = refusal(Error::Kind::kUsage, [&] { const Model model(file.path()); });
  EXPECT_TRUE(contains(message, "LACAKE_TARGET: expected one of ")) << message;
  EXPECT_TRUE(contains(message, "found \"AVX9\"")) << message;
  for (const std::string& name : target_names()) EXPECT_TRUE(contains(message, name)) << message;
}

TEST(Target, IsWhatKernelsRunAsCompiledFor) {
  const std::vector<std::string> names = target_names();
  on_every_target([&] {
    const std::string compiled = HWY_DYNAMIC_DISPATCH(compiled_for)();
    if (uses_matrix_unit()) {
      EXPECT_EQ(compiled, names[1]);
    } else {
      EXPECT_EQ(compiled, uses_avx_vnni() ? "AVX2" : target_name());
    }
  });
}

TEST(Target, HasNoMoreThanItsNameSays) {
  on_every_target([] {
    const std::string name = target_name();
    EXPECT_EQ(uses_matrix_unit(), name == "AMX");
    EXPECT_EQ(uses_avx_vnni(), name == "AVX_VNNI");
    EXPECT_EQ(uses_avx512(), name == "AMX" || name.starts_with("AVX3"));
    EXPECT_EQ(uses_avx2(), uses_avx512() || name.starts_with("AVX"));
    EXPECT_LE(uses_avx512_vnni(), uses_avx512());
  });
}

}  // namespace
}  // namespace lacake::cpu
#endif  // HWY_ONCE
