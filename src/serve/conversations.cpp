#include "serve/conversations.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <string_view>
#include <utility>

#include "lacake/error.h"
#include "lacake/snapshot.h"

#define XXH_INLINE_ALL
#include "xxhash.h"

namespace lacake {
namespace {

// Of fields, each with its length before it, so that no two lists of them are the same bytes.
class Digest {
 public:
  Digest& add(std::string_view field) {
    all_ += fmt::format("{}:", field.size());
    all_ += field;
    return *this;
  }
  std::string text() const {
    const XXH128_hash_t hash = XXH3_128bits(all_.data(), all_.size());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  std::string all_;
};

Digest digest_of(const ChatRequest& request, const SessionOptions& session) {
  Digest digest;
  digest.add(request.owner).add(session.policy.text()).add(session.budget.text()).add(session.types.text());
  return digest;
}

// How a conversation begins: its messages up to the first question.
std::string beginning_of(const ChatRequest& request, const SessionOptions& session) {
  Digest digest = digest_of(request, session);
  for (const Message& message : request.messages) {
    digest.add(message.role).add(message.content);
    for (const ContentPart& part : message.parts) digest.add(part.text);
    if (message.role == "user") break;
  }
  return "t-" + digest.text() + "-";
}

std::string numbered(const std::string& beginning, std::size_t number) {
  return fmt::format("{}{}", beginning, number);
}

}  // namespace

ConversationOptions Conversations::making(const SessionOptions& session) const {
  return {.session = session,
          .checkpoint_bytes = options_.checkpoint_bytes,
          .saved_checkpoint_bytes = options_.checkpoint_bytes};
}

Resident* Conversations::use(Resident& resident) {
  const auto at = std::find_if(all_.begin(), all_.end(), [&](const auto& r) { return r.get() == &resident; });
  all_.splice(all_.end(), all_, at);
  resident.running = true;
  return &resident;
}

Resident* Conversations::open(const std::string& id, const SessionOptions& session) {
  auto resident = std::make_unique<Resident>();
  resident->id = id;
  const std::optional<std::string> path = stored(*resident);
  if (path) {
    try {
      resident->conversation = std::make_unique<Conversation>(model_, engine_, making(session), Snapshot(*path));
      ++counts_.n_loaded;
    } catch (const Error& error) {
      // Of another model, say. What is asked now is answered without it.
      if (error.kind() != Error::Kind::kInput) throw;
      ++counts_.n_store_failures;
    }
  }
  if (!resident->conversation) {
    resident->conversation = std::make_unique<Conversation>(model_, engine_, making(session));
  }
  all_.push_back(std::move(resident));
  return use(*all_.back());
}

// The file that the store has of it, if it may be used: another process may have its lease.
std::optional<std::string> Conversations::stored(Resident& resident) {
  if (!options_.store) return {};
  try {
    resident.lease = options_.store->acquire(resident.id);
    return resident.lease ? resident.lease->path() : std::nullopt;
  } catch (const Error&) {  // a folder that cannot be read, say: the conversation is answered without it
    ++counts_.n_store_failures;
    return {};
  }
}

Conversations::Taken Conversations::take(const ChatRequest& request, const ChatOptions& chat,
                                         const SessionOptions& session, std::uint64_t room) {
  if (request.key.empty()) return take_by_beginning(beginning_of(request, session), request, chat, session, room);
  return take_by_key("k-" + digest_of(request, session).add(request.key).text(), session, room);
}

Conversations::Taken Conversations::take_by_key(const std::string& id, const SessionOptions& session,
                                                std::uint64_t room) {
  for (const auto& resident : all_) {
    if (resident->id != id) continue;
    if (resident->running) return {Found::kBusy};
    if (!resident->conversation->session() && engine_.kv_memory().free < room) return {Found::kNoRoom};
    return {Found::kTaken, use(*resident)};
  }
  if (engine_.kv_memory().free < room) return {Found::kNoRoom};
  return {Found::kTaken, open(id, session)};
}

// Several conversations may begin alike. One is gone on with where all that it holds is the beginning of what is asked,
// or half of it at least: its history was edited then, and it forgets what came after. Else another one begins.
Conversations::Taken Conversations::take_by_beginning(const std::string& beginning, const ChatRequest& request,
                                                      const ChatOptions& chat, const SessionOptions& session,
                                                      std::uint64_t room) {
  Resident* best = nullptr;
  std::size_t most_held = 0;
  std::vector<std::string> taken;
  for (const auto& resident : all_) {
    if (!resident->id.starts_with(beginning)) continue;
    taken.push_back(resident->id);
    const Session* held = resident->conversation->session();
    if (resident->running || !held) continue;
    const std::size_t n = resident->conversation->n_held_of(request.messages, chat);
    if (n <= most_held || 2 * n < held->tokens().size()) continue;
    best = resident.get(), most_held = n;
  }
  if (best) return {Found::kTaken, use(*best)};
  if (engine_.kv_memory().free < room) return {Found::kNoRoom};
  const auto is_taken = [&](const std::string& id) { return std::find(taken.begin(), taken.end(), id) != taken.end(); };
  // Each that is looked at is read from the disk, so few are; behind them nothing is looked for.
  constexpr std::size_t kMostTried = 4;
  for (std::size_t number = 1, n_tried = 0;; ++number) {
    const bool fresh = n_tried == kMostTried;
    const std::string id = numbered(beginning, fresh ? std::random_device()() : number);
    if (is_taken(id)) continue;
    ++n_tried;
    Resident* const opened = open(id, session);
    const std::size_t n_tokens = opened->conversation->session()->tokens().size();
    if (fresh || n_tokens == 0 || 2 * opened->conversation->n_held_of(request.messages, chat) >= n_tokens) {
      return {Found::kTaken, opened};
    }
    all_.pop_back();  // another conversation, which stays in the store
  }
}

bool Conversations::let_go_one() {
  const auto idle = std::find_if(all_.begin(), all_.end(), [](const auto& resident) { return !resident->running; });
  if (idle == all_.end()) return false;
  all_.erase(idle);
  ++counts_.n_dropped;
  return true;
}

}  // namespace lacake
