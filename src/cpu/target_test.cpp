#include "cpu/target.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "engine/test_session.h"
#include "lacake/machine.h"
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

// Chooses again what was in use before, when it goes.
class Choice {
 public:
  ~Choice() { use_target(before_); }

 private:
  std::string before_ = target_name();
};

TEST(Target, IsTheOneThatWasChosenBeforeAModelIsOpened) {
  const TinyModel tiny = small();
  const ModelFile file(tiny);
  const Choice choice;
  for (const std::string& name : target_names()) {
    use_instruction_set(name);
    const Model model(file.path());
    EXPECT_EQ(target_name(), name);
    EXPECT_EQ(instruction_set(), name);
  }
}

TEST(Target, AnUnknownNameIsRefusedWithThoseOfTheMachine) {
  const std::string before = target_name();
  const std::string message = refusal(Error::Kind::kUsage, [&] { use_instruction_set("AVX9"); });
  EXPECT_TRUE(contains(message, "instruction_set: expected one of ")) << message;
  EXPECT_TRUE(contains(message, "found \"AVX9\"")) << message;
  for (const std::string& name : instruction_sets()) EXPECT_TRUE(contains(message, name)) << message;
  EXPECT_EQ(target_name(), before);
}

// Packed weights of one target would be read by kernels of another.
TEST(Target, StaysWhileAModelIsOpen) {
  const TinyModel tiny = small();
  const ModelFile file(tiny);
  const Choice choice;
  const std::string before = target_name();
  {
    const Model one(file.path());
    const std::string message = refusal(Error::Kind::kState, [&] { use_instruction_set(instruction_sets().back()); });
    EXPECT_EQ(message, "instruction_set: expected to be chosen before a model is opened, found an open model");
    EXPECT_EQ(target_name(), before);
  }
  EXPECT_EQ(refusal(Error::Kind::kInput, [] { const Model none("/no/such/file.gguf"); }).empty(), false);
  use_instruction_set(instruction_sets().back());
  EXPECT_EQ(target_name(), instruction_sets().back());
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
