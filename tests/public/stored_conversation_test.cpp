// Conversations in a store, with the public headers only: what a server does.

#include <gtest/gtest.h>

#include <string>

#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/store.h"
#include "models/tiny_model.h"
#include "tools/temporary_folder.h"

namespace {

using lacake::Conversation;
using lacake::ConversationOptions;
using lacake::Snapshot;
using lacake::Store;

class StoredConversation : public testing::Test {
 protected:
  ConversationOptions options() const {
    ConversationOptions o;
    o.session.policy = lacake::PolicySpec::parse("streaming-llm");
    o.session.budget = lacake::Budget::parse("64");
    o.session.prompt_tokens = 400;
    o.generation.sampling.temp = 0;
    o.generation.limits.answer = 8;
    o.raw = true;
    return o;
  }
  static void save(Store::Lease& lease, const Conversation& conversation) {
    lease.save(conversation.saved_bytes(), [&](const std::string& path) { conversation.save(path); });
  }

  lacake::TemporaryFolder folder_;
  lacake::models::TinyModel tiny_;
  lacake::models::ModelFile file_{tiny_};
  lacake::Model model_{file_.path()};
  lacake::Engine engine_{model_, {.threads = 1}};
};

TEST_F(StoredConversation, GoesOnFromItsFile) {
  const Store store(folder_.path("store"), 10'000'000);
  Conversation conversation(model_, engine_, options());
  conversation.ask({.role = "user", .content = "why is it"});
  {
    auto lease = store.acquire("../a client's own id");
    ASSERT_TRUE(lease);
    save(*lease, conversation);
    EXPECT_FALSE(store.acquire("../a client's own id"));  // it has an owner
  }
  auto lease = store.acquire("../a client's own id");
  ASSERT_TRUE(lease && lease->path());
  Conversation opened(model_, engine_, options(), Snapshot(*lease->path()));
  const auto expected = conversation.ask({.role = "user", .content = "and then"});
  EXPECT_EQ(opened.ask({.role = "user", .content = "and then"}).answer.tokens, expected.answer.tokens);
  save(*lease, opened);
  EXPECT_EQ(store.conversations().size(), 1u);
  EXPECT_EQ(store.bytes(), opened.saved_bytes());
}

TEST_F(StoredConversation, TheLeastRecentlyUsedGoesFirst) {
  Conversation conversation(model_, engine_, options());
  conversation.ask({.role = "user", .content = "why is it"});
  const Store store(folder_.path("store"), 2 * conversation.saved_bytes());
  for (const char* id : {"one", "two", "three"}) {
    auto lease = store.acquire(id);
    ASSERT_TRUE(lease);
    save(*lease, conversation);
    EXPECT_LE(store.bytes(), store.most_bytes());
  }
  EXPECT_FALSE(store.acquire("one")->path());
  EXPECT_TRUE(store.acquire("three")->path());
}

}  // namespace
