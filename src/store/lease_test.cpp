#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lacake/store.h"
#include "store/folder.h"
#include "store/system.h"
#include "store/test_store.h"

namespace lacake {
namespace {

namespace fs = std::filesystem;

class StoreLeaseTest : public StoreTest {
 protected:
  // As a lease ends that the system has forgotten: for everybody but its owner.
  void forget_lease(const std::string& id) const {
    for (const std::string& name : files()) {
      if (name.starts_with(id + ".") && name.ends_with(".lease")) fs::remove(file(name));
    }
  }
};

// A process that was forked ends itself, whatever happens in it: no test goes on in it.
template <class Call>
pid_t forked(const Call& call) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  try {
    ::_exit(call() ? 0 : 1);
  } catch (...) {
    ::_exit(2);
  }
}
int status_of(pid_t child) {
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST_F(StoreLeaseTest, KeepsNothingOfALeaseThatIsGivenBack) {
  const Store store = open();
  { const auto a = store.acquire("a"), b = store.acquire("b"); }
  EXPECT_EQ(files(), (std::set<std::string>{"lock", "epoch.2"}));
}

TEST_F(StoreLeaseTest, GivesAConversationToOneOwnerAtATime) {
  const Store store = open(), other = open();
  auto lease = store.acquire("a");
  ASSERT_TRUE(lease);
  EXPECT_FALSE(store.acquire("a"));
  EXPECT_FALSE(other.acquire("a"));
  EXPECT_TRUE(other.acquire("b"));
  save(*lease, "one");
  EXPECT_TRUE(other.conversations()[0].owned);
  lease.reset();
  EXPECT_TRUE(other.acquire("a"));
}

TEST_F(StoreLeaseTest, GivesAConversationToOneOfManyThreads) {
  const Store store = open();
  for (int i = 0; i < 20; ++i) {
    std::vector<std::optional<Store::Lease>> leases(4);
    std::vector<std::thread> threads;
    threads.reserve(leases.size());
    for (auto& lease : leases) threads.emplace_back([&] { lease = store.acquire("a"); });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(std::count_if(leases.begin(), leases.end(), [](const auto& lease) { return lease.has_value(); }), 1);
  }
}

TEST_F(StoreLeaseTest, MovesALeaseWithoutGivingItBack) {
  const Store store = open();
  auto a = store.acquire("a");
  Store::Lease moved = std::move(*a);
  a.reset();
  EXPECT_FALSE(store.acquire("a"));
  EXPECT_EQ(moved.id(), "a");
  moved = store.acquire("b").value();
  EXPECT_EQ(moved.id(), "b");
  EXPECT_TRUE(store.acquire("a"));
  EXPECT_FALSE(store.acquire("b"));
}

TEST_F(StoreLeaseTest, GivesEveryLeaseALargerEpoch) {
  const Store store = open();
  std::uint64_t last = 0;
  for (const char* id : {"a", "b", "a", "a"}) {
    const std::uint64_t epoch = store.acquire(id).value().epoch();
    EXPECT_GT(epoch, last);
    last = epoch;
  }
  EXPECT_GT(open().acquire("c").value().epoch(), last);
}

TEST_F(StoreLeaseTest, TakesGivingBackForAUse) {
  const Store store = open();
  auto a = store.acquire("a").value();
  save(a, "one");
  save_new(store, "b", "two");
  EXPECT_EQ(ids(store), (std::vector<std::string>{"a", "b"}));
  { const Store::Lease end = std::move(a); }
  EXPECT_EQ(ids(store), (std::vector<std::string>{"b", "a"}));
}

TEST_F(StoreLeaseTest, RefusesAnOwnerWhoseEpochIsOver) {
  const Store store = open();
  auto first = store.acquire("a").value();
  save(first, "first");
  forget_lease("a");
  auto second = store.acquire("a").value();
  const Error::Fields fields = refused([&] { save(first, "again"); }, Error::Kind::kState);
  EXPECT_EQ(fields.subject, file("a.saved"));
  EXPECT_EQ(fields.found, "the lease of epoch 1 is over, another may be the owner");
  refused([&] { first.drop(); }, Error::Kind::kState);
  save(second, "second");
  { const Store::Lease end = std::move(first); }
  EXPECT_FALSE(store.acquire("a"));
  EXPECT_EQ(read_file(second.path().value()), "second");
}

TEST_F(StoreLeaseTest, RefusesAnOwnerWhoseEpochEndsWhileItWrites) {
  const Store store = open();
  auto first = store.acquire("a").value();
  std::optional<Store::Lease> second;
  const auto write = [&](const std::string& path) {
    write_file(path, "half");
    forget_lease("a");
    second = store.acquire("a").value();
    save(*second, "second");
    write_file(path, "first");
  };
  refused([&] { first.save(5, write); }, Error::Kind::kState);
  EXPECT_EQ(read_file(second->path().value()), "second");
  EXPECT_EQ(store.bytes(), 6u);
  EXPECT_EQ(files(), (std::set<std::string>{"lock", "epoch.2", "a.2.0.lease", "a.saved"}));
}

TEST_F(StoreLeaseTest, RemovesWhatDeadOwnersLeft) {
  save_new(open(), "a", "one");
  for (const char* name : {"a.3.500.lease", "a.3.new", "a.3.new.tmp", "=inugc5a.9.new"}) write_file(file(name), "left");
  const Store store = open();
  EXPECT_EQ(files(), (std::set<std::string>{"lock", "epoch.1", "a.saved"}));
  write_file(file("b.3.990.lease"), "");
  save_new(store, "b", std::string(900, 'b'));
  EXPECT_EQ(ids(store), (std::vector<std::string>{"a", "b"}));
}

TEST_F(StoreLeaseTest, LocksTheFileThatOthersLockToo) {
  const Store store = open();
  std::optional<FolderLock> first(folder());
  std::atomic<bool> is_in = false;
  std::thread waiting([&] {
    const FolderLock lock(folder());
    is_in = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  fs::remove(file("lock"));
  std::optional<FolderLock> second(folder());
  first.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(is_in);  // as it would be with the lock of a file that is gone
  second.reset();
  waiting.join();
}

TEST_F(StoreLeaseTest, LeavesALeaseToTheProcessThatAcquiredIt) {
  const Store store = open();
  auto lease = store.acquire("a");
  save(*lease, "one");
  const auto in_child = [&] {
    const Error::Fields saving = refused([&] { save(*lease, "two"); }, Error::Kind::kState);
    refused([&] { lease->drop(); }, Error::Kind::kState);
    lease.reset();  // gives nothing back
    return saving.found == "its lease is another process's" && !store.acquire("a") && !HasFailure();
  };
  EXPECT_EQ(status_of(forked(in_child)), 0);
  save(*lease, "three");
  // One that lives on keeps nothing from being given back.
  const pid_t sleeper = forked([] { return ::pause() == 0; });
  lease.reset();
  EXPECT_EQ(content(store, "a"), "three");
  ::kill(sleeper, SIGKILL);
  status_of(sleeper);
}

TEST_F(StoreLeaseTest, LeavesNoLockOfTheFolderToAFork) {
  const Store store = open();
  std::optional<FolderLock> lock(folder());
  const pid_t sleeper = forked([] { return ::pause() == 0; });
  lock.reset();
  OpenFile other(file("lock"), O_RDWR);
  EXPECT_TRUE(try_lock(other, file("lock")));
  ::kill(sleeper, SIGKILL);
  status_of(sleeper);
}

TEST_F(StoreLeaseTest, TakesALeaseBackFromAProcessThatIsKilled) {
  const Store store = open(1000);
  save_new(store, "a", "one");
  save_new(store, "b", "two");
  const auto in_child = [&] {
    auto lease = store.acquire("a").value();
    lease.save(900, [&](const std::string& path) {
      write_file(path, std::string(450, 'x'));
      ::kill(::getpid(), SIGKILL);
    });
    return true;
  };
  EXPECT_TRUE(WIFSIGNALED(status_of(forked(in_child))));
  EXPECT_EQ(store.bytes(), 6u);
  EXPECT_EQ(bytes_of_files(), 6u);
  EXPECT_EQ(ids(store), (std::vector<std::string>{"b", "a"}));  // its use counts
  EXPECT_EQ(content(store, "a"), "one");
}

}  // namespace
}  // namespace lacake
