#include "snapshot/parts.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/files.h"
#include "lacake/error.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

using Integers = std::vector<std::int64_t>;

class Parts : public testing::Test {
 protected:
  std::string refused(const std::function<void(const PartsFile&)>& read) const {
    try {
      read(PartsFile(path_));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
  std::string path_ = folder_.path("a");
  PartsWriter writer_;
};

TEST_F(Parts, AreReadAsTheyWereWritten) {
  writer_.set("text", "a text");
  writer_.set("number", std::uint64_t{7});
  writer_.set("real", 0.25);
  writer_.set("flag", true);
  writer_.add_text("letters", std::string("a\0b\xff", 4));
  writer_.add("reals", std::vector<float>{1.5f, -2});
  const std::int64_t shape[] = {2, 3};
  writer_.add("bytes", GGML_TYPE_I8, shape,
              [](std::span<std::byte> to) { std::fill(to.begin(), to.end(), std::byte{9}); });
  writer_.write(path_);
  EXPECT_EQ(writer_.bytes(), read_file(path_).size());

  const PartsFile file(path_);
  EXPECT_EQ(file.text("text"), "a text");
  EXPECT_EQ(file.number("number", 0, 7), 7u);
  EXPECT_EQ(file.real("real"), 0.25);
  EXPECT_TRUE(file.flag("flag"));
  EXPECT_EQ(file.part_text("letters"), std::string("a\0b\xff", 4));
  EXPECT_EQ(file.list<float>("reals"), (std::vector<float>{1.5f, -2}));
  EXPECT_EQ(file.part("bytes").shape, (Integers{2, 3}));
  EXPECT_EQ(file.part_names(), (std::vector<std::string>{"letters", "reals", "bytes"}));
}

TEST_F(Parts, IntegersTakeAsFewBytesAsHoldThemAll) {
  const std::pair<Integers, ggml_type> lists[] = {{{0, 127, -128}, GGML_TYPE_I8},
                                                  {{0, 128}, GGML_TYPE_I16},
                                                  {{-32769}, GGML_TYPE_I32},
                                                  {{std::numeric_limits<std::int64_t>::min()}, GGML_TYPE_I64}};
  for (std::size_t i = 0; i < std::size(lists); ++i) writer_.add_integers(std::to_string(i), lists[i].first);
  writer_.write(path_);
  const PartsFile file(path_);
  for (std::size_t i = 0; i < std::size(lists); ++i) {
    EXPECT_EQ(file.integers(std::to_string(i)), lists[i].first);
    EXPECT_EQ(file.part(std::to_string(i)).type, lists[i].second);
  }
}

TEST_F(Parts, VarintsTakeAByteForASmallNumberAndHoldLargeOnes) {
  const std::int64_t large = (std::int64_t{1} << 62) - 1;
  const Integers numbers = {0, -1, 63, -64, 64, 100'000, -100'000, large, -large - 1};
  writer_.add_varints("numbers", numbers);
  writer_.add_varints("small", Integers(1000, 5));
  writer_.write(path_);
  const PartsFile file(path_);
  EXPECT_EQ(file.varints("numbers"), numbers);
  EXPECT_EQ(file.part("small").bytes.size(), 1000u);
}

TEST_F(Parts, WhatIsNoListOfVarintsIsRefused) {
  writer_.add_text("cut", "\x80");
  writer_.add_text("long", std::string(10, '\x80'));
  writer_.write(path_);
  EXPECT_EQ(refused([](const PartsFile& f) { f.varints("cut"); }),
            path_ + ": part cut: expected whole numbers, found one that is cut short");
  EXPECT_NE(refused([](const PartsFile& f) { f.varints("long"); }), "");
}

TEST_F(Parts, WhatIsMissingOrOfAnotherKindIsNamed) {
  writer_.set("flag", true);
  writer_.add("reals", std::vector<float>{1});
  writer_.write(path_);
  EXPECT_EQ(refused([](const PartsFile& f) { f.text("none"); }), path_ + ": none: expected a value, found none");
  EXPECT_EQ(refused([](const PartsFile& f) { f.text("flag"); }), path_ + ": flag: expected type str, found bool");
  EXPECT_EQ(refused([](const PartsFile& f) { f.part("none"); }), path_ + ": part none: expected one, found none");
  EXPECT_EQ(refused([](const PartsFile& f) { f.part_text("reals"); }), path_ + ": part reals: expected i8, found f32");
  EXPECT_EQ(refused([](const PartsFile& f) { f.part("reals", GGML_TYPE_F32, 2); }),
            path_ + ": part reals: expected 2 elements, found 1");
}

}  // namespace
}  // namespace lacake
