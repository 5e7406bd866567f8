#include "lacake/store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "store/test_store.h"

namespace lacake {
namespace {

namespace fs = std::filesystem;

TEST_F(StoreTest, HasForTheNextOwnerWhatWasSaved) {
  const auto before = std::chrono::system_clock::now();
  save_new(open(), "a", "one");
  const Store store = open();
  EXPECT_EQ(content(store, "a"), "one");
  EXPECT_EQ(content(store, "b"), std::nullopt);
  const auto conversations = store.conversations();
  ASSERT_EQ(conversations.size(), 1u);
  EXPECT_EQ(conversations[0].id, "a");
  EXPECT_EQ(conversations[0].bytes, 3u);
  EXPECT_FALSE(conversations[0].owned);
  EXPECT_GE(conversations[0].last_use, before);
  EXPECT_LE(conversations[0].last_use, std::chrono::system_clock::now());
  EXPECT_EQ(store.bytes(), 3u);
}

TEST_F(StoreTest, HasNoBytesOfItsOwn) {
  const Store store = open(0);
  const auto a = store.acquire("a"), b = store.acquire("b");
  EXPECT_EQ(store.bytes(), 0u);
  EXPECT_EQ(bytes_of_files(), 0u);
}

TEST_F(StoreTest, KeepsTheOldFileUntilTheNewOneIsInItsPlaceAndCountsBoth) {
  const Store store = open();
  auto lease = store.acquire("a").value();
  save(lease, "old");
  lease.save(5, [&](const std::string& path) {
    EXPECT_EQ(store.bytes(), 3u + 5u);
    write_file(path, "newer");
    EXPECT_EQ(store.bytes(), 3u + 5u);
    EXPECT_EQ(read_file(lease.path().value()), "old");
  });
  EXPECT_EQ(read_file(lease.path().value()), "newer");
  EXPECT_EQ(store.bytes(), 5u);
  EXPECT_EQ(bytes_of_files(), 5u);
}

TEST_F(StoreTest, DropsWhatWasUsedLeastRecently) {
  const Store store = open(1000);
  for (const char* id : {"a", "b", "c", "d"}) save_new(store, id, std::string(250, *id));
  EXPECT_EQ(content(store, "a"), std::string(250, 'a'));  // a use
  EXPECT_EQ(ids(store), (std::vector<std::string>{"b", "c", "d", "a"}));
  save_new(store, "e", std::string(251, 'e'));
  EXPECT_EQ(ids(store), (std::vector<std::string>{"d", "a", "e"}));
  EXPECT_EQ(store.bytes(), 751u);
  EXPECT_EQ(bytes_of_files(), 751u);
}

TEST_F(StoreTest, NeverDropsWhatHasAnOwnerAndThenDropsNothing) {
  const Store store = open(900);
  auto a = store.acquire("a").value(), b = store.acquire("b").value();
  save(a, std::string(400, 'a'));
  save_new(store, "c", std::string(300, 'c'));
  const Error::Fields fields = refused([&] { save(b, std::string(501, 'b')); }, Error::Kind::kCapacity);
  EXPECT_EQ(fields.subject, folder());
  EXPECT_EQ(fields.expected, "501 B free for a new file");
  EXPECT_EQ(fields.found, "500 B of 900 B beside 2 conversations that have an owner");
  EXPECT_EQ(ids(store), (std::vector<std::string>{"a", "c"}));
  save(b, std::string(500, 'b'));
  EXPECT_EQ(ids(store), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(bytes_of_files(), 900u);
}

TEST_F(StoreTest, WritesNothingThatItWouldHaveToDropAtOnce) {
  const Store store = open(1000);
  auto lease = store.acquire("a").value();
  save(lease, std::string(501, 'a'));
  const auto never = [](const std::string&) { FAIL(); };
  EXPECT_EQ(refused([&] { lease.save(1001, never); }, Error::Kind::kCapacity).subject, "most_bytes");
  refused([&] { lease.save(UINT64_MAX, never); }, Error::Kind::kCapacity);
  refused([&] { lease.save(500, never); }, Error::Kind::kCapacity);  // beside the old one
  EXPECT_EQ(store.bytes(), 501u);
  lease.drop();
  save(lease, std::string(1000, 'a'));
  EXPECT_EQ(store.bytes(), 1000u);
}

TEST_F(StoreTest, ReservesWhatIsWrittenForItsWriterAlone) {
  const Store store = open(1000), other = open(1000);
  auto a = store.acquire("a").value(), b = other.acquire("b").value();
  a.save(600, [&](const std::string& path) {
    EXPECT_EQ(other.bytes(), 600u);
    EXPECT_EQ(bytes_of_files(), 0u);
    refused([&] { save(b, std::string(401, 'b')); }, Error::Kind::kCapacity);
    save(b, std::string(400, 'b'));
    write_file(path, std::string(600, 'a'));
  });
  EXPECT_EQ(store.bytes(), 1000u);
}

TEST_F(StoreTest, HasTheOldFileAndNothingBesideItAfterASaveThatFails) {
  const Store store = open(1000);
  auto lease = store.acquire("a").value();
  save(lease, "old");
  const auto throws = [](const std::string& path) {
    write_file(path, "ne");
    write_file(path + ".tmp", "n");
    throw std::runtime_error("stopped");
  };
  EXPECT_THROW(lease.save(3, throws), std::runtime_error);
  const auto short_one = [](const std::string& path) { write_file(path, "ne"); };
  const Error::Fields fields = refused([&] { lease.save(3, short_one); }, Error::Kind::kInput);
  EXPECT_EQ(fields.expected, "a new file of 3 bytes");
  EXPECT_EQ(fields.found, "2");
  EXPECT_EQ(refused([&] { lease.save(3, [](const std::string&) {}); }, Error::Kind::kInput).found, "none");
  EXPECT_EQ(files(), (std::set<std::string>{"lock", "epoch.1", "a.1.0.lease", "a.saved"}));
  EXPECT_EQ(read_file(lease.path().value()), "old");
  EXPECT_EQ(store.bytes(), 3u);
  save(lease, "new");
  EXPECT_EQ(read_file(lease.path().value()), "new");
}

TEST_F(StoreTest, ForgetsADroppedConversation) {
  const Store store = open();
  auto lease = store.acquire("a").value();
  lease.drop();
  save(lease, "one");
  lease.drop();
  EXPECT_EQ(lease.path(), std::nullopt);
  EXPECT_EQ(store.bytes(), 0u);
  EXPECT_TRUE(store.conversations().empty());
}

TEST_F(StoreTest, CountsFilesOfOthersAndLeavesThemAlone) {
  const Store store = open(1000);
  write_file(file("notes.txt"), std::string(600, '.'));
  fs::create_directory(file("a folder"));
  EXPECT_EQ(store.bytes(), 600u);
  save_new(store, "a", std::string(300, 'a'));
  save_new(store, "b", std::string(400, 'b'));
  EXPECT_EQ(ids(store), (std::vector<std::string>{"b"}));
  auto lease = store.acquire("c").value();
  refused([&] { save(lease, std::string(401, 'c')); }, Error::Kind::kCapacity);
  EXPECT_TRUE(fs::exists(file("notes.txt")));
}

TEST_F(StoreTest, DropsWhatASmallerBoundHasNoRoomFor) {
  const Store large = open(1000);
  for (const char* id : {"a", "b", "c"}) save_new(large, id, std::string(300, *id));
  const auto owner = large.acquire("a");
  const Store store = open(600);
  EXPECT_EQ(ids(store), (std::vector<std::string>{"c", "a"}));
  EXPECT_EQ(ids(open(0)), (std::vector<std::string>{"a"}));
}

TEST_F(StoreTest, KeepsEveryIdInsideItsFolder) {
  const Store store = open();
  const std::vector<std::string> wanted{"../outside", "/etc/passwd", "..", "A", "a", "-rf", "lock", "epoch"};
  for (const std::string& id : wanted) save_new(store, id, id);
  EXPECT_EQ(ids(store), wanted);
  for (const std::string& id : wanted) EXPECT_EQ(content(store, id), id);
  EXPECT_EQ(files().size(), wanted.size() + 2);
  EXPECT_EQ(std::distance(fs::directory_iterator(temporary_.path()), {}), 1);
  EXPECT_EQ(refused([&] { (void)store.acquire(""); }, Error::Kind::kUsage).subject, "conversation's id");
}

TEST_F(StoreTest, SaysWhichPathTheSystemRefuses) {
  const std::string path = temporary_.file("file", "");
  EXPECT_EQ(refused([&] { Store(path + "/folder", 1); }, Error::Kind::kInput).subject, path + "/folder");
  EXPECT_EQ(refused([&] { Store(path, 1); }, Error::Kind::kInput).subject, path + "/lock");
  const Store store = open();
  auto lease = store.acquire("a").value();
  fs::create_directory(file("a.saved"));  // no file can take this place
  const Error::Fields fields = refused([&] { save(lease, "one"); }, Error::Kind::kInput);
  EXPECT_EQ(fields.subject, file("a.saved"));
  EXPECT_EQ(fields.found, "cannot be written: Is a directory");
  EXPECT_EQ(store.bytes(), 0u);
}

TEST_F(StoreTest, MakesAFolderThatIsItsOwnersAlone) {
  const Store store(temporary_.path("deep/er"), 1);
  EXPECT_EQ(fs::status(temporary_.path("deep/er")).permissions(), fs::perms::owner_all);
}

}  // namespace
}  // namespace lacake
