// main() of every test program: Google Test's, computing with the instruction set that was asked for.

#include <gtest/gtest.h>

#include <cstdio>

#include "lacake/error.h"
#include "tools/target_of_environment.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    lacake::use_target_of_environment();
  } catch (const lacake::Error& error) {
    std::fprintf(stderr, "LACAKE_TARGET: %s\n", error.what());
    return 2;
  }
  return RUN_ALL_TESTS();
}
