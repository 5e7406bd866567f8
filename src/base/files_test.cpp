#include "base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "lacake/error.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

class Files : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path(name); }
  std::size_t n_files() const {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_.path())) ++n;
    return n;
  }
  template <class Call>
  Error::Fields refused(const Call& call) const {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kInput);
      return error.fields();
    }
    ADD_FAILURE() << "expected an error";
    return {};
  }
  TemporaryFolder folder_;
};

TEST_F(Files, ReadsWhatItWroteAndSaysWhereThereIsNone) {
  const std::string bytes("a\0b\n\xff", 5);
  replace_durably(path("a"), bytes);
  EXPECT_EQ(read_file(path("a")), bytes);
  EXPECT_EQ(read_file_if_there(path("a")), bytes);
  EXPECT_EQ(read_file_if_there(path("b")), std::nullopt);
  const Error::Fields none = refused([&] { (void)read_file(path("b")); });
  EXPECT_EQ(none.subject, path("b"));
  EXPECT_EQ(none.found, "cannot be opened: No such file or directory");
  EXPECT_EQ(refused([&] { (void)read_file_if_there(folder_.path()); }).found, "cannot be read: Is a directory");
}

TEST_F(Files, ReadsAPipeToItsEnd) {
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  const std::string text(200'000, 'x');  // more than a pipe holds
  std::thread writer([&] {
    const int fd = ::open(path("pipe").c_str(), O_WRONLY);
    EXPECT_EQ(write_descriptor(fd, text), 0);
    ::close(fd);
  });
  EXPECT_EQ(read_file(path("pipe")), text);
  writer.join();
}

TEST_F(Files, AppendsLineAfterLine) {
  append_durably(path("a"), "one\n");
  append_durably(path("a"), "two\nthree\n");
  EXPECT_EQ(read_file(path("a")), "one\ntwo\nthree\n");
}

TEST_F(Files, AReplacementThatFailsLeavesTheOldFileAndNothingBeside) {
  replace_durably(path("a"), "old");
  std::filesystem::create_directory(path("folder"));
  const Error::Fields fields = refused([&] { replace_durably(path("folder"), "new"); });
  EXPECT_EQ(fields.subject, path("folder"));
  EXPECT_EQ(fields.found, "cannot be written: Is a directory");
  EXPECT_EQ(refused([&] { replace_durably(path("no/where"), "new"); }).subject, path("no/where"));
  EXPECT_EQ(read_file(path("a")), "old");
  EXPECT_EQ(n_files(), 2u);
}

TEST_F(Files, TwoWritersOfOneFileLeaveOneOfTheirs) {
  const auto write = [&](char c) {
    for (int i = 0; i < 20; ++i) replace_durably(path("a"), std::string(5000, c));
  };
  std::thread other(write, 'x');
  write('y');
  other.join();
  const std::string text = read_file(path("a"));
  EXPECT_TRUE(text == std::string(5000, 'x') || text == std::string(5000, 'y'));
  EXPECT_EQ(n_files(), 1u);
}

}  // namespace
}  // namespace lacake
