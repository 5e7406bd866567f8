#include "serve/conversations.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <random>
#include <string_view>
#include <utility>

#include "base/files.h"
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

// Whether it may be what a request of this name goes on with.
bool is_of_name(const Resident& resident, const std::string& name) {
  return !name.empty() && resident.id.starts_with(name);
}

Digest digest_of(const std::string& owner, const SessionOptions& session) {
  Digest digest;
  PolicySpec policy = session.policy;
  policy.settings.erase(kPinned);  // follows from the messages
  digest.add(owner).add(policy.text()).add(session.budget.text()).add(session.types.text());
  return digest;
}

// All ids of an owner's conversations have this behind their first letter, and nobody else's.
std::string mark_of(std::string_view owner) { return Digest().add(owner).text().substr(0, 12); }

// `kind`: k, known by its key; t, by its text.
std::string id_of(char kind, std::string_view owner, const Digest& digest) {
  return fmt::format("{}-{}-{}", kind, mark_of(owner), digest.text());
}

std::string id_by_key(const std::string& owner, const SessionOptions& session, const std::string& key) {
  return id_of('k', owner, digest_of(owner, session).add(key));
}

// How a conversation begins: its messages up to the first question.
std::string beginning_of(const ChatRequest& request, const SessionOptions& session) {
  Digest digest = digest_of(request.owner, session);
  for (const Message& message : request.messages) {
    digest.add(message.role).add(message.content);
    for (const ContentPart& part : message.parts) digest.add(part.text);
    if (message.role == "user") break;
  }
  return id_of('t', request.owner, digest) + "-";
}

std::string numbered(const std::string& beginning, std::size_t number) {
  return fmt::format("{}{}", beginning, number);
}

Error unknown(const std::string& id) {
  return Error({.subject = "conversation", .expected = "the id of one that is here", .found = '"' + id + '"'});
}

Error busy(const char* found) {
  return Error({.kind = Error::Kind::kState,
                .subject = "conversation",
                .expected = "one that nobody uses",
                .found = found,
                .remedy = "try again later"});
}

Error taken(const std::string& key) {
  return Error({.kind = Error::Kind::kState,
                .subject = "session",
                .expected = "a key that no conversation has",
                .found = '"' + key + '"',
                .remedy = "delete the one that has it, or give another key"});
}

// `Held`: a Session or a Snapshot.
template <class Held>
ConversationView view_of(const Held& held, const SessionOptions& options, int n_layer, int n_head_kv) {
  ConversationView view{.policy = options.policy.text(), .tokens = held.tokens()};
  for (int layer = 0; layer < n_layer; ++layer) {
    view.kept.emplace_back();
    for (int head = 0; head < n_head_kv; ++head) view.kept.back().push_back(held.kept(layer, head));
  }
  return view;
}

}  // namespace

ConversationOptions Conversations::making(const std::string& owner, const SessionOptions& session) const {
  return {.session = session,
          .checkpoint_bytes = options_.checkpoint_bytes,
          .saved_checkpoint_bytes = options_.checkpoint_bytes,
          .openings = openings_,
          .opening_group = opening_group(owner, session),
          .pins_opening = options_.pins_openings};
}

std::string opening_group(const std::string& owner, const SessionOptions& session) {
  return digest_of(owner, session).text();
}

std::string Conversations::name_of(const ChatRequest& request, const SessionOptions& session) {
  return request.key.empty() ? beginning_of(request, session) : id_by_key(request.owner, session, request.key);
}

Resident* Conversations::use(Resident& resident) {
  const auto at = std::find_if(all_.begin(), all_.end(), [&](const auto& r) { return r.get() == &resident; });
  all_.splice(all_.end(), all_, at);
  resident.running = true;
  return &resident;
}

Resident* Conversations::open(const std::string& id, const std::string& owner, const SessionOptions& session) {
  auto resident = std::make_unique<Resident>();
  resident->id = id;
  const std::optional<std::string> path = stored(*resident);
  if (path) {
    try {
      const Snapshot snapshot(*path);
      // Kept by a server whose conversations had another length: this one's requests would not fit it, or it not here.
      if (snapshot.facts().budget_bytes == engine_.plan(session).budget_bytes) {
        resident->conversation = std::make_unique<Conversation>(model_, engine_, making(owner, session), snapshot);
        ++counts_.n_loaded;
      }
    } catch (const Error& error) {
      // Of another model, say. What is asked now is answered without it.
      if (error.kind() != Error::Kind::kInput) throw;
      ++counts_.n_store_failures;
    }
  }
  if (!resident->conversation) {
    resident->conversation = std::make_unique<Conversation>(model_, engine_, making(owner, session));
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
  } catch (const Error& error) {  // a folder that cannot be read, say: the conversation is answered without it
    resident.store_failure = error;
    ++counts_.n_store_failures;
    return {};
  }
}

Conversations::Taken Conversations::take(const ChatRequest& request, const std::string& name, const ChatOptions& chat,
                                         const SessionOptions& session, std::uint64_t room) {
  return request.key.empty() ? take_by_beginning(name, request, chat, session, room)
                             : take_by_key(request, name, session, room);
}

Conversations::Taken Conversations::take_by_key(const ChatRequest& request, const std::string& id,
                                                const SessionOptions& session, std::uint64_t room) {
  if (const auto at = find(id); at != all_.end()) {
    Resident& resident = **at;
    if (resident.running) return {Found::kBusy};
    if (!resident.conversation->session() && engine_.kv_memory().free < room) return {Found::kNoRoom};
    if (!regrow(resident, room)) return {Found::kNoRoom};
    return {Found::kTaken, use(resident)};
  }
  if (engine_.kv_memory().free < room) return {Found::kNoRoom};
  return {Found::kTaken, open(id, request.owner, session)};
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
  if (best && !regrow(*best, room)) return {Found::kNoRoom};
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
    Resident* const opened = open(id, request.owner, session);
    try {
      const std::size_t n_tokens = opened->conversation->session()->tokens().size();
      if (fresh || n_tokens == 0 || 2 * opened->conversation->n_held_of(request.messages, chat) >= n_tokens) {
        return {Found::kTaken, opened};
      }
    } catch (const std::exception&) {  // a template that refuses these messages: nobody would give it back
      all_.pop_back();
      throw;
    }
    all_.pop_back();  // another conversation, which stays in the store
  }
}

// --- looked at, copied, dropped --------------------------------------------------------------------------------------

bool is_conversation_of(std::string_view id, std::string_view owner) {
  return id.size() > 2 && id.substr(2).starts_with(mark_of(owner) + "-");
}

Conversations::Residents::const_iterator Conversations::find(const std::string& id) const {
  return std::find_if(all_.begin(), all_.end(), [&](const auto& resident) { return resident->id == id; });
}

Conversations::Residents::const_iterator Conversations::find_idle(const ConversationName& name) const {
  const auto at = find(name.id);
  if (at == all_.end()) return at;
  if (!is_conversation_of(name.id, name.owner)) throw unknown(name.id);
  if ((*at)->running) throw busy("one that is being asked");
  return at;
}

Store::Lease Conversations::lease_of(const ConversationName& name) const {
  const bool may_be = options_.store && is_conversation_of(name.id, name.owner) && name.id.size() <= Store::kLongestId;
  if (!may_be) throw unknown(name.id);
  std::optional<Store::Lease> lease = options_.store->acquire(name.id);
  if (!lease) throw busy("one that another server has");
  if (!lease->path()) throw unknown(name.id);
  return std::move(*lease);
}

ConversationView Conversations::look(const ConversationName& name) const {
  if (const auto at = find_idle(name); at != all_.end()) {
    const Conversation& conversation = *(*at)->conversation;
    if (!conversation.session()) return {};
    const Session& session = *conversation.session();
    const AttentionShape& shape = model_.facts().attention;
    return view_of(session, session.options(), shape.n_layer, shape.n_head_kv);
  }
  const Store::Lease lease = lease_of(name);
  const Snapshot snapshot(*lease.path());
  const SnapshotFacts& facts = snapshot.facts();
  return view_of(snapshot, facts.options, facts.n_layer, facts.n_head_kv);
}

std::string Conversations::snapshot(const ConversationName& name) const {
  if (const auto at = find_idle(name); at != all_.end()) return (*at)->conversation->saved();
  return read_file(*lease_of(name).path());
}

std::string Conversations::copy(const ConversationName& name, std::uint64_t promised) {
  if (const auto at = find_idle(name); at != all_.end() && (*at)->n_halvings > 0) {
    Resident& resident = **at;
    const Session& session = *resident.conversation->session();
    SessionOptions whole = session.options();
    whole.budget = resident.budget;
    const std::uint64_t bytes = engine_.plan(whole).budget_bytes;
    make_room(bytes - std::min(bytes, session.plan().budget_bytes), promised, name.id);
    regrow(resident, 0);
  }
  return snapshot(name);
}

std::unique_ptr<Resident> Conversations::take_out(Residents::const_iterator at) {
  Residents one;
  one.splice(one.end(), all_, at);
  return std::move(one.front());
}

// For a conversation that takes so many bytes idle ones go, that of the id `wanted` last.
void Conversations::make_room(std::uint64_t bytes, std::uint64_t promised, const std::string& wanted) {
  const auto free = [&] { return engine_.kv_memory().free - std::min(engine_.kv_memory().free, promised); };
  while (free() < bytes) {
    if (let_go_one(wanted)) continue;
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "kv_memory",
                 .expected = fmt::format("{} bytes free", bytes),
                 .found = fmt::format("{} bytes, the rest is in use", free()),
                 .remedy = "try again later"});
  }
}

Resident* Conversations::restore(const std::string& bytes, const std::string& key, const std::string& owner,
                                 std::uint64_t promised) {
  // What can never be is refused before anybody gives way.
  const Snapshot snapshot(bytes, "snapshot");
  require_model(snapshot, model_);
  const SnapshotFacts& facts = snapshot.facts();
  if (facts.budget_bytes > engine_.kv_memory().reserved) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "kv_memory",
                 .expected = fmt::format("a conversation of {} bytes at most", engine_.kv_memory().reserved),
                 .found = fmt::format("one of {}", facts.budget_bytes)});
  }
  auto resident = std::make_unique<Resident>();
  resident->id = id_by_key(owner, facts.options, key);
  resident->running = true;
  // Nobody's conversation is replaced by a key that was taken by mistake.
  if (find(resident->id) != all_.end()) throw taken(key);
  if (options_.store) {
    resident->lease = options_.store->acquire(resident->id);
    if (!resident->lease) throw busy("one that another server has");
    if (resident->lease->path()) throw taken(key);
  }
  make_room(facts.budget_bytes, promised, "");
  resident->conversation = std::make_unique<Conversation>(model_, engine_, making(owner, facts.options), snapshot);
  all_.push_back(std::move(resident));
  return all_.back().get();
}

void Conversations::drop(const ConversationName& name) {
  const auto at = find_idle(name);
  if (at == all_.end()) return lease_of(name).drop();
  std::optional<Store::Lease> lease = std::move(take_out(at)->lease);
  if (!lease && options_.store) {
    lease = options_.store->acquire(name.id);
    if (!lease) throw busy("one that another server has; what was in memory here is forgotten");
  }
  if (lease && lease->path()) lease->drop();
}

void Conversations::give_back(Resident& resident) {
  resident.running = false;
  if (resident.conversation->session()) return;
  std::erase_if(all_, [&](const auto& r) { return r.get() == &resident; });
}

bool Conversations::shrink_one(const std::string& wanted) {
  constexpr int kMostHalvings = 2;
  Resident* least = nullptr;  // shrunk, then used least recently
  for (const auto& resident : all_) {
    const bool may =
        !resident->running && !is_of_name(*resident, wanted) && !resident->lease && resident->conversation->session();
    if (may && resident->n_halvings < (least ? least->n_halvings : kMostHalvings)) least = resident.get();
  }
  if (!least) return false;
  const SessionPlan plan = least->conversation->session()->plan();
  if (least->n_halvings == 0) least->budget = least->conversation->session()->options().budget;
  ++least->n_halvings;
  try {
    least->conversation->resize({Budget::Unit::kBytes, (double)(plan.budget_bytes / 2)});
    ++counts_.n_shrunk;
  } catch (const Error&) {  // less than its policy works with
    return shrink_one(wanted);
  }
  return true;
}

bool Conversations::regrow(Resident& resident, std::uint64_t room) {
  if (resident.n_halvings == 0 || !resident.conversation->session()) return true;
  if (engine_.kv_memory().free + resident.conversation->session()->plan().budget_bytes < room) return false;
  resident.conversation->resize(resident.budget);
  resident.n_halvings = 0;
  return true;
}

bool Conversations::let_go_one(const std::string& wanted) {
  if (options_.elastic && shrink_one(wanted)) return true;
  auto at =
      std::find_if(all_.begin(), all_.end(), [&](const auto& r) { return !r->running && !is_of_name(*r, wanted); });
  if (at == all_.end()) {  // others that begin alike
    at = std::find_if(all_.begin(), all_.end(), [&](const auto& r) { return !r->running && r->id != wanted; });
  }
  if (at == all_.end()) return false;
  all_.erase(at);
  ++counts_.n_dropped;
  return true;
}

std::uint64_t Conversations::idle_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& resident : all_) {
    if (!resident->running && resident->conversation->session())
      bytes += resident->conversation->session()->plan().budget_bytes;
  }
  return bytes;
}

void Conversations::let_go_all() {
  counts_.n_dropped += std::erase_if(all_, [](const auto& resident) { return !resident->running; });
}

}  // namespace lacake
