#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "lacake/error.h"
#include "lacake/store.h"
#include "tools/temporary_folder.h"

namespace lacake {

inline void write_file(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline void save(Store::Lease& lease, std::string_view content) {
  lease.save(content.size(), [&](const std::string& path) { write_file(path, content); });
}

// What counts, for a user who does not know the store.
inline std::uint64_t bytes_of_files(const std::string& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) bytes += entry.file_size();
  return bytes;
}

class StoreTest : public testing::Test {
 protected:
  Store open(std::uint64_t most_bytes = 1000) const { return Store(folder(), most_bytes); }
  std::string folder() const { return temporary_.path("conversations"); }
  std::string file(const std::string& name) const { return folder() + "/" + name; }

  std::set<std::string> files() const {
    std::set<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder())) files.insert(entry.path().filename());
    return files;
  }
  std::uint64_t bytes_of_files() const { return lacake::bytes_of_files(folder()); }
  static std::vector<std::string> ids(const Store& store) {
    std::vector<std::string> ids;
    for (const StoredConversation& conversation : store.conversations()) ids.push_back(conversation.id);
    return ids;
  }
  static void save_new(const Store& store, std::string_view id, std::string_view content) {
    auto lease = store.acquire(id);
    ASSERT_TRUE(lease) << id;
    save(*lease, content);
  }
  static std::optional<std::string> content(const Store& store, std::string_view id) {
    const auto lease = store.acquire(id);
    const auto path = lease.value().path();
    if (!path) return std::nullopt;
    return read_file(*path);
  }
  template <class Call>
  static Error::Fields refused(const Call& call, Error::Kind kind) {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.fields();
    }
    ADD_FAILURE() << "expected an error";
    return {};
  }
  TemporaryFolder temporary_;
};

}  // namespace lacake
