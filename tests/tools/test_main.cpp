// main() of every test program: Google Test's, computing with the instruction set that was asked for.

#include <gtest/gtest.h>

#include <cstdio>
#include <string_view>

#include "lacake/error.h"
#include "tools/target_of_environment.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    lacake::use_target_of_environment();
  } catch (const lacake::Error& error) {
    const auto name = [](std::string_view setting) { return setting == "instruction_set" ? "LACAKE_TARGET" : ""; };
    std::fprintf(stderr, "%s\n", error.with_names(name).c_str());
    return 2;
  }
  return RUN_ALL_TESTS();
}
