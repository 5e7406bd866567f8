#include "store/names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "lacake/error.h"
#include "lacake/store.h"

namespace lacake {
namespace {

// What a client may send, meaning well or not.
std::vector<std::string> many_ids() {
  std::vector<std::string> ids{"a",
                               "A",
                               "chat-42",
                               "Chat-42",
                               ".",
                               "..",
                               "../../etc/passwd",
                               "/",
                               "a/b",
                               "a.saved",
                               "-rf",
                               "_",
                               "lock",
                               "epoch",
                               "=me",
                               "=",
                               " ",
                               "a\nb",
                               "%2e%2e",
                               "~",
                               "C:\\con",
                               "z\xc3",
                               "\xff\n",
                               "9b2f-UPPER-case"};
  ids.push_back(std::string("\0", 1));
  ids.push_back(std::string("\0\0", 2));
  for (const char c : {'a', 'Z', '\0', '\xff'}) ids.push_back(std::string(Store::kLongestId, c));
  for (std::size_t n = 2; n <= 6; ++n) ids.push_back(std::string(n, '/'));
  return ids;
}

TEST(StoreNames, AreTheIdsWherePeopleMayReadThem) {
  EXPECT_EQ(name_of_id("chat-42"), "chat-42");
  EXPECT_EQ(name_of_id("550e8400-e29b-41d4-a716-446655440000"), "550e8400-e29b-41d4-a716-446655440000");
  EXPECT_EQ(name_of_id("Chat"), "=inugc5a");
}

TEST(StoreNames, GiveEveryIdBackAndNoTwoTheSameWhereCaseIsIgnored) {
  std::set<std::string> names;
  for (const std::string& id : many_ids()) {
    std::string name = name_of_id(id);
    EXPECT_EQ(id_of_name(name), id) << name;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return (char)std::tolower(c); });
    EXPECT_TRUE(names.insert(name).second) << name;
  }
}

TEST(StoreNames, AreFilesOfTheFolderThatEverySystemTakes) {
  for (const std::string& id : many_ids()) {
    const std::string name = name_of_id(id);
    EXPECT_NE(name.front(), '-') << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_="), std::string::npos) << name;
    EXPECT_LE(lease_file(name, UINT64_MAX, UINT64_MAX).size(), 255u);
    EXPECT_LE(new_file(name, UINT64_MAX).size() + std::string(".1234567-1234567.tmp").size(), 255u);
  }
}

TEST(StoreNames, AreNotGivenToIdsThatAreEmptyOrTooLong) {
  EXPECT_THROW((void)name_of_id(""), Error);
  EXPECT_THROW((void)name_of_id(std::string(Store::kLongestId + 1, 'a')), Error);
}

TEST(StoreNames, OfNoIdAreNotRead) {
  EXPECT_EQ(id_of_name("=mfrgg"), std::nullopt);    // "abc", which is its own name
  EXPECT_EQ(id_of_name("=INUGC5A"), std::nullopt);  // "Chat" is written in lower case
  EXPECT_EQ(id_of_name("=inugc5b"), std::nullopt);  // with bits that stand for nothing
  for (const char* name : {"", "=", "=?", "Chat", "-a", "a b"}) EXPECT_EQ(id_of_name(name), std::nullopt) << name;
}

TEST(StoreNames, OfFilesSayWhatTheyAre) {
  using Kind = FileName::Kind;
  const FileName saved = parse_file_name(saved_file("chat-42"));
  EXPECT_EQ(saved.kind, Kind::kSaved);
  EXPECT_EQ(saved.name, "chat-42");
  const FileName lease = parse_file_name(lease_file("epoch", 7, UINT64_MAX));
  EXPECT_EQ(lease.kind, Kind::kLease);
  EXPECT_EQ(lease.name, "epoch");
  EXPECT_EQ(lease.epoch, 7u);
  EXPECT_EQ(lease.reserved, UINT64_MAX);
  const FileName written = parse_file_name(new_file("=inugc5a", 12) + ".tmp");
  EXPECT_EQ(written.kind, Kind::kNew);
  EXPECT_EQ(written.name, "=inugc5a");
  EXPECT_EQ(written.epoch, 12u);
  const FileName epoch = parse_file_name(epoch_file(8));
  EXPECT_EQ(epoch.kind, Kind::kEpoch);
  EXPECT_EQ(epoch.epoch, 8u);
}

TEST(StoreNames, OfOtherFilesAreToldFromItsOwn) {
  for (const char* file :
       {"lock", "notes.txt", ".", "..", ".a.saved", "A.saved", "a.saved.bak", "a.new", "a.1.2.lease.bak",
        "a.-1.2.lease", "a.01.2.lease", "a.1.lease", "a.18446744073709551616.new", "epoch.", "epoch.x"}) {
    EXPECT_EQ(parse_file_name(file).kind, FileName::Kind::kOther) << file;
  }
}

}  // namespace
}  // namespace lacake
