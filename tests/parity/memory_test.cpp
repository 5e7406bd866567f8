// A prompt of 3,000 tokens (in the long runs 6,000, under a sanitizer 1,000) at a budget of 512, each case in a process
// of its own: what the arena, the workspace and the system count, against the plan.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "parity/long_run.h"
#include "parity/texts.h"
#include "tools/sanitized.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

const std::size_t kPrompt = kSanitized ? 1000 : long_run() ? 6000 : 3000;
constexpr const char* kBudget = "512";
constexpr int kDecode = 32;

struct Case {
  const char* policy;
  const char* prefill;
};

class Memory : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    auto tokens = wikitext_and_news();
    ASSERT_GE(tokens.size(), kPrompt);
    tokens.resize(kPrompt);
    folder_ = std::make_unique<TemporaryFolder>();
    ids_ = folder_->file("prompt.ids", {(const char*)tokens.data(), tokens.size() * sizeof(Token)});
  }
  static void TearDownTestSuite() { folder_.reset(); }

  // Runs the probe and reads what it printed.
  static nlohmann::json probed(const Case& c) {
    const std::string command = std::string("'") + LACAKE_MEMORY_PROBE + "' '" + quantised_model() + "' " + c.policy +
                                " " + kBudget + " " + c.prefill + " f16 '" + ids_ + "' " + std::to_string(kDecode);
    std::FILE* pipe = ::popen(command.c_str(), "r");
    std::string printed;
    for (char buffer[4096]; std::fgets(buffer, sizeof buffer, pipe) != nullptr;) printed += buffer;
    EXPECT_EQ(::pclose(pipe), 0) << command;
    return nlohmann::json::parse(printed);
  }

  static inline std::unique_ptr<TemporaryFolder> folder_;
  static inline std::string ids_;
};

std::uint64_t number(const nlohmann::json& value) { return value.get<std::uint64_t>(); }

TEST_P(Memory, KeepsToBudgetAndPlan) {
  const Case& c = GetParam();
  const nlohmann::json found = probed(c);
  const nlohmann::json& plan = found.at("plan");
  SCOPED_TRACE(found.dump());

  EXPECT_LE(number(found["cache"]["peak"]), number(found["cache"]["budget"]));
  EXPECT_LE(number(found["cache"]["most_held"]), number(found["cache"]["peak"]));
  EXPECT_GT(number(found["cache"]["full"]), number(found["cache"]["budget"]));
  EXPECT_EQ(number(plan["cache"]), number(found["cache"]["budget"]));

  EXPECT_LE(number(found["workspace"]), number(plan["layer_workspace"]));
  if (std::string(c.prefill) == "exact") {
    EXPECT_EQ(number(found["workspace"]), number(plan["layer_workspace"]));
  }

  if (kSanitized) GTEST_SKIP() << "resident memory is not held to the plan: the sanitizer's own is in it";
  const double planned = (double)number(plan["total"]), peak = (double)number(found["resident"]["peak"]);
  const double allowed = std::max(0.05 * planned, 8.0 * (1 << 20));
  std::printf("%s, %s: planned %.1f MiB, peak resident %.1f MiB\n", c.policy, c.prefill, planned / (1 << 20),
              peak / (1 << 20));
  EXPECT_NEAR(peak, planned, allowed);
}

// Of trellis the form that has one way to read a text: the plan of the other has room for both.
INSTANTIATE_TEST_SUITE_P(Policies, Memory,
                         testing::Values(Case{"lacache", "exact"}, Case{"lacache", "streaming"},
                                         Case{"streaming-llm", "exact"}, Case{"streaming-llm", "streaming"},
                                         Case{"cake", "exact"}, Case{"cake", "streaming"},
                                         Case{"trellis:question=seen", "exact"},
                                         Case{"trellis:question=seen", "streaming"}),
                         [](const testing::TestParamInfo<Case>& which) {
                           std::string name = std::string(which.param.policy) + "_" + which.param.prefill;
                           for (const char other : {'-', ':', '='}) std::replace(name.begin(), name.end(), other, '_');
                           return name;
                         });

}  // namespace
}  // namespace lacake
