#include "matmul/dot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "cpu/target.h"

namespace lacake::matmul {
namespace {

TEST(Dot, IsThePlainSumOfProductsOfAnyLengthOnEveryTarget) {
  std::mt19937 random(1);
  const auto number = [&] { return (float)(random() >> 8) * 0x1p-23f - 1; };
  for (const std::size_t n : {0, 1, 15, 63, 64, 65, 127, 128, 576, 896, 1000}) {
    std::vector<float> a(n), b(n);
    double expected = 0, size = 0;
    for (std::size_t i = 0; i < n; ++i) {
      a[i] = number(), b[i] = number();
      expected += (double)a[i] * b[i], size += std::abs((double)a[i] * b[i]);
    }
    const std::string in_use = cpu::target_name();
    for (const std::string& name : cpu::target_names()) {
      cpu::use_target(name);
      EXPECT_NEAR(dot(a.data(), b.data(), n), expected, 1e-6 * size) << n << " on " << name;
    }
    cpu::use_target(in_use);
  }
}

}  // namespace
}  // namespace lacake::matmul
