#include "cpu/matrix_unit.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace lacake::cpu {
namespace {

#if LACAKE_MATRIX_UNIT

using Shape = std::array<std::uint8_t, 64>;

Shape shape_now() {
  Shape shape;
  asm volatile("sttilecfg %0" : "=m"(shape));
  return shape;
}

TEST(MatrixRegisters, LeaveTheShapeThatTheyFound) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no AMX here";
  Shape others{};
  others[0] = 1;                                                                    // palette
  for (std::size_t t = 0; t < 3; ++t) others[16 + 2 * t] = 32, others[48 + t] = 7;  // bytes a row, rows
  asm volatile("ldtilecfg %0" ::"m"(others));
  {
    const MatrixRegisters registers;
    EXPECT_NE(shape_now(), others);
  }
  EXPECT_EQ(shape_now(), others);
  asm volatile("tilerelease");
  const Shape released = shape_now();
  { const MatrixRegisters registers; }
  EXPECT_EQ(shape_now(), released);
}

#endif

}  // namespace
}  // namespace lacake::cpu
