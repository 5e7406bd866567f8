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

TEST_F(Files, AReplacementGoesWhereLinksLeadAndLeavesThem) {
  std::filesystem::create_directory(path("far"));
  replace_durably(path("far/target"), "old");
  std::filesystem::create_symlink("far/target", path("link"));
  std::filesystem::create_symlink(path("link"), path("other"));
  std::filesystem::create_symlink("far/new", path("dangling"));
  std::filesystem::create_symlink("loop", path("loop"));
  replace_durably(path("other"), "new");
  EXPECT_EQ(read_file(path("far/target")), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(path("link")) && std::filesystem::is_symlink(path("other")));
  replace_durably(path("dangling"), "made");
  EXPECT_EQ(read_file(path("far/new")), "made");
  EXPECT_TRUE(std::filesystem::is_symlink(path("dangling")));
  EXPECT_EQ(refused([&] { replace_durably(path("loop"), "new"); }).subject, path("loop"));
  EXPECT_EQ(n_files(), 5u);
}

TEST_F(Files, KnowsAFileByAllItsNames) {
  std::filesystem::create_directory(path("folder"));
  std::filesystem::create_directory_symlink("folder", path("way"));
  std::filesystem::create_symlink("folder/new", path("dangling"));
  replace_durably(path("a"), "a");
  replace_durably(path("b"), "a");
  std::filesystem::create_symlink("a", path("link"));
  std::filesystem::create_hard_link(path("a"), path("hard"));
  for (const char* name : {"a", "folder/../a", "link", "hard", "way/../link"}) {
    EXPECT_TRUE(is_same_file(path("a"), path(name))) << name;
    EXPECT_FALSE(is_same_file(path(name), path("b"))) << name;
    EXPECT_FALSE(is_same_file(path("folder/new"), path(name))) << name;
  }
  for (const char* name : {"folder/new", "folder/./new", "way/new", "dangling"}) {
    EXPECT_TRUE(is_same_file(path("folder/new"), path(name))) << name;
    EXPECT_FALSE(is_same_file(path(name), path("new"))) << name;
  }
  EXPECT_TRUE(is_same_file("nowhere.new", "./nowhere.new"));
}

TEST_F(Files, AMarkTellsAFileFromWhatIsWrittenInItsPlaceOrIntoIt) {
  EXPECT_EQ(file_mark(path("a")), std::nullopt);
  replace_durably(path("a"), "one");
  std::filesystem::create_symlink("a", path("link"));
  const std::optional<FileMark> before = file_mark(path("a"));
  EXPECT_TRUE(before);
  EXPECT_EQ(file_mark(path("link")), before);
  replace_durably(path("a"), "two");
  const std::optional<FileMark> replaced = file_mark(path("a"));
  EXPECT_NE(replaced, before);
  append_durably(path("a"), "three");
  EXPECT_NE(file_mark(path("a")), replaced);
}

TEST_F(Files, AReplacementHasTheRightsOfTheOldFile) {
  for (const mode_t mode : {0600, 0640, 0666}) {
    replace_durably(path("a"), "old");
    ASSERT_EQ(::chmod(path("a").c_str(), mode), 0);
    replace_durably(path("a.1.tmp"), "of a writer that was killed");
    Replacement file(path("a"));
    struct stat facts {};
    ASSERT_EQ(::stat(path("a.tmp").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, mode);  // before a byte is written
    file.write("new");
    file.commit();
    ASSERT_EQ(::stat(path("a").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, mode);
    EXPECT_EQ(read_file(path("a")), "new");
  }
}

TEST_F(Files, WhatIsNoRegularFileIsNeverReplaced) {
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", path("link"));
  for (const char* name : {"pipe", "link"}) {
    const Error::Fields fields = refused([&] { replace_durably(path(name), "new"); });
    EXPECT_EQ(fields.subject, path(name));
    EXPECT_EQ(fields.found, "cannot be written: it is not a regular file");
  }
  // As /dev/stdout is one: what a process has open may have another name by now, or none.
  replace_durably(path("a"), "old");
  const int fd = ::open(path("a").c_str(), O_RDONLY);
  std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(fd), path("open"));
  if (std::filesystem::exists(path("open"))) {
    EXPECT_EQ(refused([&] { (void)file_to_replace(path("open")); }).found,
              "cannot be written: a link of /proc leads to no name");
  }
  ::close(fd);
}

TEST_F(Files, ANameThatLeavesNoRoomForTheFileBesideItIsRefusedBeforeAnythingIsWritten) {
  constexpr std::size_t kMost = 255;  // bytes of a name
  const std::string fits = path(std::string(kMost - std::string(".999.tmp").size(), 'a')), too_long = fits + "a";
  replace_durably(fits, "new");
  EXPECT_EQ(read_file(fits), "new");
  const Error::Fields fields = refused([&] { (void)file_to_replace(too_long); });
  EXPECT_EQ(fields.subject, too_long);
  EXPECT_EQ(fields.found, "cannot be written: File name too long");
}

TEST_F(Files, WhatMayNotBeWrittenIsNotReplaced) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everything";
  replace_durably(path("a"), "old");
  ASSERT_EQ(::chmod(path("a").c_str(), 0444), 0);
  EXPECT_EQ(refused([&] { replace_durably(path("a"), "new"); }).found, "cannot be written: Permission denied");
  EXPECT_EQ(read_file(path("a")), "old");
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
