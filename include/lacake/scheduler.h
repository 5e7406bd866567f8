#pragma once

// Many conversations on one engine, in one fixed amount of KV memory.
//
//     lacake::Engine engine(model, {.kv_memory = 4ULL << 30});
//     lacake::Scheduler scheduler(model, engine, {.session = sized});
//     const auto ticket = scheduler.submit({.what = lacake::ChatRequest{messages}, .asking = asking}, client);
//     ...
//     scheduler.cancel(ticket);  // the client has gone
//
// A thread of its own computes. Each of its rounds is one token of every answer that is being written and a few bounded
// steps of the prompts that are being read, so nobody waits for somebody's book. Among prompts, the one with least left
// to read and the one that waits longest take turns. What a prompt needs while it is read is beside the KV memory
// (MemoryPlan in lacake/engine.h).
//
// Requests are admitted in the order in which they came, as soon as the reserved KV memory has room for their session.
// Room is made by letting go of idle conversations, the one that was used least recently first: with a store they stay
// there, without one they are read again when they are asked again. What runs is never ended for another's sake.
//
// A conversation is found again by its key, or by how it begins. It goes on where the client's messages agree with what
// it holds (lacake/conversation.h), also when its history was edited.
//
// Threads: every member may be called from any thread. While a Scheduler lives, its engine belongs to it. Clients are
// called by the scheduler's thread, which computes nothing meanwhile: they should hand on what they get and return.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/store.h"

namespace lacake {

// An answer to the last of some messages.
struct ChatRequest {
  std::vector<Message> messages;
  // The client's own name for the conversation; "": the conversation is known by how it begins.
  std::string key = {};
  // Conversations of different owners are never one, whatever their keys and texts.
  std::string owner = {};
};

// What comes behind a text that is no conversation. Nothing of it is kept.
struct TextRequest {
  ChatPrompt prompt;
  // Set: the log-probability of each token of the prompt, and the so many likeliest in its place.
  std::optional<std::size_t> log_probabilities = {};
};

struct Request {
  std::variant<ChatRequest, TextRequest> what;
  Asking asking = {};
  // Instead of the scheduler's; its prompt_tokens and new_tokens are ignored.
  std::optional<SessionOptions> session = {};
  // One more part of work that was accepted already, such as a further prompt of a request with several. It is not
  // refused because the queue is full or the scheduler drains.
  bool accepted_before = false;
};

// What a request came to know of the cache.
struct ServedCache {
  std::string id = {};       // of its conversation; "" of a text
  std::size_t n_prompt = 0;  // tokens of the whole prompt
  std::size_t n_held = 0;    // of these, read already
  CacheUse use = {};         // now
  std::string policy = {};
  // Whether the store has the conversation as it is now; none where there is no store.
  std::optional<bool> stored = {};
  // Why the store has not, with the system's cause where that refused. None where `stored` is not false, where another
  // process has the conversation, and in later answers of a conversation whose failure was told already.
  std::optional<Error> store_failure = {};
};

struct Served {
  std::vector<Answer> answers;
  ServedCache cache;
  double queue_ms = 0;  // from submit() until it was admitted
  double read_ms = 0;   // of computing
  bool read_again = false;
  std::vector<LogProbabilities> prompt_log_probabilities;  // [i] is of token i + 1
};

// Whoever asked. The last call is ended() or failed(), one of them, once.
class RequestClient {
 public:
  virtual ~RequestClient() = default;
  // It is admitted: reading begins.
  virtual void started(const ServedCache&) noexcept {}
  // Tokens' worth of reading done, of all.
  virtual void progress(std::size_t /*done*/, std::size_t /*total*/) noexcept {}
  // A token of an answer was chosen; `text` is what its text grew by, maybe nothing.
  virtual void written(std::size_t /*answer*/, std::string_view /*text*/, const Generation&) noexcept {}
  virtual void ended(const Served&) noexcept = 0;
  virtual void failed(const Error&) noexcept = 0;
};

// One of an owner's conversations, in memory or in the store.
struct ConversationName {
  std::string id;
  std::string owner = {};
};

// What a conversation holds, to be looked at.
struct ConversationView {
  std::string policy;
  std::vector<Token> tokens;                                 // that it was fed
  std::vector<std::vector<std::vector<std::int64_t>>> kept;  // [layer][head]: positions of these, in stored order
};

// A conversation that was made of a snapshot. It goes on for requests with its key that say the same of the cache.
struct RestoredConversation {
  std::string id;
  std::string policy, budget, types;  // as PolicySpec, Budget and CacheTypes write them
};

// What an order to the scheduler came to. Called once, as clients are.
template <class Result>
using Told = std::function<void(std::variant<Result, Error>)>;

struct SchedulerOptions {
  SessionOptions session = {};         // of conversations: sized_for_conversation() makes one
  LengthLimits limits = {};            // of them `conversation` counts, for every request
  std::uint64_t checkpoint_bytes = 0;  // of each conversation
  // Memory for what conversations of one owner share: what stands before their first question (system message, tools)
  // is read by one of them, and copied by the others. 0: each reads it.
  std::uint64_t opening_bytes = 0;
  // Idle conversations that are not in the store give way by halves, down to a quarter of their budget, before any is
  // dropped. They get all of it back when they are asked again, but not what they dropped.
  bool elastic = false;
  bool pins_openings = false;     // what stands there always stays (ConversationOptions::pins_opening)
  std::size_t most_waiting = 64;  // requests beside those that run; more are refused
  const Store* store = nullptr;   // where conversations outlive this. Borrowed
};

// Counts since it was made, and what is now, or was some milliseconds ago while requests run.
struct SchedulerStatus {
  struct Conversation {
    std::string id;
    bool running = false;
    std::size_t n_tokens = 0;
    std::uint64_t held_bytes = 0;
    std::uint64_t budget_bytes = 0;
    std::size_t n_turns = 0;
  };
  std::vector<Conversation> conversations;  // in memory, the least recently used first
  std::size_t n_waiting = 0, n_reading = 0, n_writing = 0;
  KvMemoryUse memory;
  std::uint64_t opening_bytes = 0;  // that shared openings take, beside it
  std::uint64_t n_requests = 0, n_refused = 0, n_cancelled = 0, n_failed = 0;
  std::uint64_t n_prompt_tokens = 0;  // that were asked for
  std::uint64_t n_read_tokens = 0;    // of these, computed
  std::uint64_t n_written_tokens = 0;
  std::uint64_t n_steps = 0;
  double read_seconds = 0, write_seconds = 0;
  std::uint64_t n_shrunk = 0;                               // times that a conversation gave half of its budget up
  std::uint64_t n_dropped = 0, n_stored = 0, n_loaded = 0;  // conversations let go, kept in the store, taken from it
  std::uint64_t n_store_failures = 0;                       // that could not be kept or taken
};

class Scheduler {
 public:
  using Ticket = std::uint64_t;

  // At most so many long prompts are read at once: until its end each takes memory for its hidden states and for one
  // layer's keys and values. A further long one begins when one of them has ended.
  static constexpr std::size_t kMostReading = 4;
  // A prompt of which no more tokens than this are to be read is short, and never waits for that.
  static constexpr std::size_t kShortPrompt = 512;

  // Borrows all. Throws Error(kUsage) where the engine has no reserved KV memory or it does not hold one session.
  Scheduler(const Model& model, Engine& engine, SchedulerOptions options);
  // Stops everything: who still waits for something gets failed().
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Throws Error(kCapacity) whose subject is `queue` where too many wait already, Error(kState) where it is draining.
  // Everything else is told to the client.
  Ticket submit(Request request, std::shared_ptr<RequestClient> client);
  // Its work stops within one step. The client gets ended() with what was written, or failed() where nothing was yet.
  // Of no request, or one that has ended: nothing happens.
  void cancel(Ticket ticket);

  // No new requests from here on. Those that are there end by themselves, or at the deadline where one was given; the
  // deadline of a later call replaces it. Conversations that do not run are let go, so that another server may take
  // them from the store: those of now before `told` hears how many requests are left, the others as their requests end.
  void begin_drain(std::optional<std::chrono::milliseconds> deadline, Told<std::size_t> told);
  // No new requests; returns when those that are there have ended, or were ended at the deadline.
  void drain(std::chrono::milliseconds deadline);

  SchedulerStatus status() const;

  // --- conversations -------------------------------------------------------------------------------------------
  // These run between two rounds, so they need not wait until running answers end. They are told Error(kInput) about
  // `conversation` where its owner has none of that id, Error(kState) about it while it runs or another process has it.

  void look(ConversationName name, Told<ConversationView> told);
  // The bytes of a file that Snapshot reads (lacake/snapshot.h).
  void snapshot(ConversationName name, Told<std::string> told);
  // Of such bytes a conversation that is known by the key, in memory and in the store, if there is one. Told when it is
  // there, and Error(kState) about `session` where its owner has one under that key, Error(kInput) about `snapshot`
  // that cannot be used, Error(kUsage or kCapacity) where it does not fit, ever or now, Error(kState) about `store`
  // that did not take it: it is in memory then.
  void restore(std::string bytes, std::string key, std::string owner, Told<RestoredConversation> told);
  // A copy that is known by the key. Told as snapshot() and restore().
  void fork(ConversationName name, std::string key, Told<RestoredConversation> told);
  void drop(ConversationName name, Told<std::monostate> told);

  // Whose id it is.
  static bool is_of(std::string_view id, std::string_view owner);
  // Those of an owner that are in the store, also if they are in memory. Throws what Store::conversations throws.
  std::vector<StoredConversation> stored(std::string_view owner) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lacake
