#include "lacake/bytes.h"

#include <gtest/gtest.h>

namespace lacake {
namespace {

TEST(BytesText, TakesAtMostFourDigits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(512), "512 B");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(1000), "0.98 KiB");
  EXPECT_EQ(bytes_text(1024), "1.00 KiB");
  EXPECT_EQ(bytes_text(12373197), "11.8 MiB");
  EXPECT_EQ(bytes_text(268435456), "256 MiB");
  EXPECT_EQ(bytes_text(1099511627776), "1.00 TiB");
  EXPECT_EQ(bytes_text((1ull << 40) - 1), "1.00 TiB");
}

}  // namespace
}  // namespace lacake
