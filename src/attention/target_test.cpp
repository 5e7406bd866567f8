#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "attention/attention.h"
#include "engine/test_session.h"

namespace lacake {
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
  Loaded loaded(small());
  for (const std::string& name : attention::target_names()) {
    const Environment environment(name);
    const Engine engine(loaded.model, {.threads = 1});
    EXPECT_EQ(attention::target_name(), name);
  }
  attention::use_target(attention::target_names().front());
}

TEST(Target, AnUnknownNameIsRefusedWithThoseOfTheMachine) {
  Loaded loaded(small());
  const Environment environment("AVX9");
  const std::string message = refusal(Error::Kind::kUsage, [&] { const Engine engine(loaded.model, {.threads = 1}); });
  EXPECT_TRUE(contains(message, "LACAKE_TARGET: expected one of ")) << message;
  EXPECT_TRUE(contains(message, "found \"AVX9\"")) << message;
  for (const std::string& name : attention::target_names()) EXPECT_TRUE(contains(message, name)) << message;
}

}  // namespace
}  // namespace lacake
