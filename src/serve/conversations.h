#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "generation/openings.h"
#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/scheduler.h"
#include "lacake/store.h"

namespace lacake {

// Whether an id is that of an owner's conversation.
bool is_conversation_of(std::string_view id, std::string_view owner);

// Conversations of one group may share what they begin with: of one owner, with the same cache.
std::string opening_group(const std::string& owner, const SessionOptions& session);

// A conversation in memory. One that does not run has a session: Conversations::give_back() sees to that.
struct Resident {
  std::string id;
  std::unique_ptr<Conversation> conversation;
  std::optional<Store::Lease> lease;   // where there is a store, and nobody else has it
  std::optional<Error> store_failure;  // why there is none; until it is told
  bool running = false;
  Budget budget = {};  // when nothing was given up
  int n_halvings = 0;  // of it
};

// The conversations that are in memory, and their way to and from the store. Those that do not run can be let go.
class Conversations {
 public:
  // Borrows all.
  Conversations(const Model& model, Engine& engine, const SchedulerOptions& options)
      : model_(model), engine_(engine), options_(options) {
    if (options.opening_bytes > 0) openings_ = std::make_shared<Openings>(options.opening_bytes);
  }

  // The id of the conversation that a request goes on in, or what the ids of all those begin with that begin as it
  // does.
  static std::string name_of(const ChatRequest& request, const SessionOptions& session);

  enum class Found { kTaken, kBusy, kNoRoom };
  struct Taken {
    Found found = Found::kTaken;
    Resident* resident = nullptr;  // where it was taken: it runs from here on
  };
  // The conversation that a request goes on in; a new one where there is none. kBusy: it runs for somebody else.
  // kNoRoom: it is not in memory, and of KV memory less than `room` bytes is free.
  //   name  name_of(request, session)
  Taken take(const ChatRequest& request, const std::string& name, const ChatOptions& chat,
             const SessionOptions& session, std::uint64_t room);
  // It runs no more. One that holds nothing, because what was asked failed, goes.
  void give_back(Resident& resident);
  // It was written to the store, or could not be.
  void count_saved(bool kept) { ++(kept ? counts_.n_stored : counts_.n_store_failures); }

  // As the members of Scheduler of these names, but that they throw. Of KV memory, `promised` bytes are not to be used.
  ConversationView look(const ConversationName& name) const;
  std::string snapshot(const ConversationName& name) const;
  // The bytes of snapshot(), for restore(). A conversation whose budget was halved gets all of it back first, because
  // the copy's id is made from the whole budget.
  std::string copy(const ConversationName& name, std::uint64_t promised);
  // The caller keeps it in the store, if it has a lease: it runs until it is given back.
  Resident* restore(const std::string& bytes, const std::string& key, const std::string& owner, std::uint64_t promised);
  void drop(const ConversationName& name);

  // Makes room: one that is idle gives half of its budget up, or goes. False: there is none.
  //   wanted  name_of() of the request that the room is for, or an id: what it goes on with goes last. "": a text
  bool let_go_one(const std::string& wanted);
  // All that are idle.
  void let_go_all();
  // KV memory of all that are idle: as much as letting them go would free.
  std::uint64_t idle_bytes() const;

  std::uint64_t opening_bytes() const { return openings_ ? openings_->bytes() : 0; }

  // The least recently used first.
  const std::list<std::unique_ptr<Resident>>& all() const { return all_; }

  struct Counts {
    std::uint64_t n_shrunk = 0, n_dropped = 0, n_stored = 0, n_loaded = 0, n_store_failures = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  using Residents = std::list<std::unique_ptr<Resident>>;
  Residents::const_iterator find(const std::string& id) const;
  // The same of an owner's that does not run; throws where it does, or is another's. The end: not in memory.
  Residents::const_iterator find_idle(const ConversationName& name) const;
  std::unique_ptr<Resident> take_out(Residents::const_iterator at);
  // Of one that is not in memory. Throws where there is none, or another process has it.
  Store::Lease lease_of(const ConversationName& name) const;
  void make_room(std::uint64_t bytes, std::uint64_t promised, const std::string& wanted);

  ConversationOptions making(const std::string& owner, const SessionOptions& session) const;
  Resident* use(Resident& resident);
  bool shrink_one(const std::string& wanted);
  // Gives back what it gave up, of KV memory that is free beside `room` bytes. False: there is not as much.
  bool regrow(Resident& resident, std::uint64_t room);
  std::optional<std::string> stored(Resident& resident);
  // Opens it: from the store, or as a new one.
  Resident* open(const std::string& id, const std::string& owner, const SessionOptions& session);
  Taken take_by_key(const ChatRequest& request, const std::string& id, const SessionOptions& session,
                    std::uint64_t room);
  Taken take_by_beginning(const std::string& beginning, const ChatRequest& request, const ChatOptions& chat,
                          const SessionOptions& session, std::uint64_t room);

  const Model& model_;
  Engine& engine_;
  const SchedulerOptions& options_;
  std::shared_ptr<Openings> openings_;  // null: nothing is shared
  Residents all_;
  Counts counts_;
};

}  // namespace lacake
