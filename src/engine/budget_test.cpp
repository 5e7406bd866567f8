#include "lacake/budget.h"

#include <gtest/gtest.h>

#include <string>

#include "lacake/error.h"

namespace lacake {
namespace {

TEST(Budget, ReadsEntriesSharesAndBytes) {
  EXPECT_EQ(Budget::parse("1024").unit, Budget::Unit::kEntries);
  EXPECT_EQ(Budget::parse("1024").value, 1024);
  EXPECT_EQ(Budget::parse("3.2%").unit, Budget::Unit::kShare);
  EXPECT_DOUBLE_EQ(Budget::parse("3.2%").value, 0.032);
  EXPECT_EQ(Budget::parse("100%").value, 1);
  struct Case {
    const char* text;
    double bytes;
  };
  for (const Case& c : {Case{"7B", 7},
                        {"2KB", 2e3},
                        {"2KiB", 2048},
                        {"1.5MB", 1.5e6},
                        {"256MiB", 256.0 * 1048576},
                        {"3GB", 3e9},
                        {"0.5GiB", 536870912},
                        {"1TiB", 1099511627776.0}}) {
    const Budget budget = Budget::parse(c.text);
    EXPECT_EQ(budget.unit, Budget::Unit::kBytes) << c.text;
    EXPECT_EQ(budget.value, c.bytes) << c.text;
  }
}

TEST(Budget, RefusesEverythingElseNamingTheFlag) {
  for (const std::string text :
       {"",    "0", "-5",   "0%",  "-1%", "101%",  "1.5",  "abc",        "12x", "5 MiB", "5mib",
        "MiB", "%", "0.2B", "nan", "inf", "1e999", "1e13", "9999999TiB", "5%%", "1024 "}) {
    try {
      Budget::parse(text);
      FAIL() << '"' << text << "\" was taken";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kUsage);
      const std::string message = e.what();
      EXPECT_EQ(message.rfind("kv_budget: expected ", 0), 0u) << message;
      EXPECT_NE(message.find('"' + text + '"'), std::string::npos) << message;
    }
  }
}

TEST(Budget, TextReadsBackToTheSame) {
  EXPECT_EQ(Budget{}.text(), "none");
  for (const std::string text :
       {"1", "1024", "999999999999", "3.2%", "0.125%", "100%", "256MiB", "3GiB", "1TiB", "5B", "12KiB"}) {
    EXPECT_EQ(Budget::parse(text).text(), text);
  }
  EXPECT_EQ(Budget::parse("2048MiB").text(), "2GiB");
  EXPECT_EQ(Budget::parse("1KB").text(), "1000B");
}

TEST(Budget, BecomesBytesInOnePlace) {
  EXPECT_EQ(Budget::parse("100").bytes(768, 30, 0), 100u * 768 * 30);
  EXPECT_EQ(Budget::parse("10%").bytes(768, 30, 5000), 500u * 768 * 30);
  EXPECT_EQ(Budget::parse("10%").bytes(1, 1, 9), 0u);
  EXPECT_EQ(Budget::parse("1MiB").bytes(768, 30, 5000), 1048576u);
}

TEST(Budget, AShareOfAThousandIsExactToATenth) {
  for (unsigned tenths = 1; tenths <= 1000; ++tenths) {
    const std::string text = std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + "%";
    EXPECT_EQ(Budget::parse(text).bytes(1, 1, 1000), tenths) << text;
  }
}

}  // namespace
}  // namespace lacake
