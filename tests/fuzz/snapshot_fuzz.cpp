// Files of saved sessions that nobody saved. Whatever the bytes, opening them is refused by an Error, or gives a
// session and a conversation that go on: no other exception, no assertion, no memory that is not theirs.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/world.h"
#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/snapshot.h"
#include "model/loaded_model.h"
#include "snapshot/parts.h"

namespace lacake::fuzzing {
namespace {

World& world(bool sliding) {
  static World worlds[] = {World(false), World(true)};
  return worlds[sliding ? 1 : 0];
}

// A file of another model is refused at once: this one's then, where the metadata has a string of the same length.
void put_fingerprint(std::span<std::byte> file, const std::string& fingerprint) {
  const std::string_view all((const char*)file.data(), file.size()), key = "model.fingerprint";
  const std::size_t at = all.find(key);
  constexpr std::size_t kBefore = sizeof(std::uint32_t) + sizeof(std::uint64_t);  // its type and length
  if (at == all.npos || at + key.size() + kBefore + fingerprint.size() > file.size()) return;
  std::memcpy(file.data() + at + key.size() + kBefore, fingerprint.data(), fingerprint.size());
}

template <class Call>
void attempt(Call call) {
  try {
    call();
  } catch (const Error& error) {
    if (std::strpbrk(error.what(), "\r\n")) std::abort();  // one line
  }
}

void look(const Snapshot& snapshot) {
  attempt([&] { snapshot.tokens(); });
  attempt([&] { snapshot.pieces(); });
  attempt([&] { snapshot.text(); });
  attempt([&] { snapshot.note("conversation"); });
  constexpr int kMost = 4;  // each reads the lengths of all
  for (int layer = 0; layer < std::min(snapshot.facts().n_layer, kMost); ++layer) {
    for (int head = 0; head < std::min(snapshot.facts().n_head_kv, kMost); ++head) {
      attempt([&] { snapshot.kept(layer, head); });
    }
  }
}

void step(Session& session, int n) {
  for (int i = 0; i < n; ++i) {
    const auto logits = session.logits();
    session.step(logits.empty() ? 7 : (Token)(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
}

// With all checkpoints that the file says it has.
Engine::OpenedSession open(World& w, const Snapshot& snapshot) {
  std::vector<std::size_t> all(snapshot.facts().checkpoints.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return w.engine.open(snapshot, all);
}

void go_on(World& w, const Snapshot& snapshot) {
  const Engine::OpenedSession opened = open(w, snapshot);
  const std::unique_ptr<Session>& session = opened.session;
  const auto& checkpoints = opened.checkpoints;
  const std::vector<Token> turn = models::random_tokens(w.tiny, 5, 9);
  attempt([&] { step(*session, 3); });
  attempt([&] {
    const auto before = session->checkpoint();
    session->prefill(turn);
    step(*session, 2);
    session->go_back(*before);
  });
  attempt([&] { step(*w.engine.fork(*session), 2); });
  attempt([&] {
    const auto now = session->checkpoint();
    const SessionCheckpoint* const one[] = {now.get()};
    session->saved_bytes({}, one);
  });
  for (std::size_t i = checkpoints.size(); i-- > 0;) {
    attempt([&] {
      session->go_back(*checkpoints[i]);
      step(*session, 2);
      session->go_back(*checkpoints[i]);
      session->prefill(turn);
    });
  }
  attempt([&] { session->prefill(turn, {.more_follows = true}); });
  for (const double share : {0.6, 1.5}) {
    attempt([&] {
      const double entries = (double)session->plan().full_layer_entries * share;
      session->resize({Budget::Unit::kEntries, std::max(entries, 1.0)});
    });
    attempt([&] { step(*session, 2); });
    attempt([&] { session->prefill(turn); });
  }
}

void talk(World& w, const Snapshot& snapshot) {
  ConversationOptions options{.checkpoint_bytes = 1 << 16, .saved_checkpoint_bytes = 1 << 16};
  options.generation.limits.answer = 2;
  Conversation conversation(w.model, w.engine, options, snapshot);
  attempt([&] { conversation.ask({"user", "and a b?"}); });
  attempt([&] { conversation.retry(); });
  attempt([&] { conversation.saved_bytes(); });
  attempt([&] { conversation.undo(); });
  attempt([&] { conversation.read_ahead("more text"); });
}

// Computing takes a hundred times as long as reading, so one file of so many goes on; which, its bytes decide.
bool goes_on(std::span<const std::byte> bytes) {
  constexpr std::size_t kEvery = 128;
  const std::string_view all((const char*)bytes.data(), bytes.size());
  return std::hash<std::string_view>()(all) % kEvery == 0;
}

}  // namespace
}  // namespace lacake::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lacake::fuzzing;
  if (size == 0) return 0;
  const auto given = std::as_bytes(std::span(data + 1, size - 1));
  std::vector<std::byte> bytes(given.begin(), given.end());
  World& w = world(data[0] & kSliding);
  if (data[0] & kSealed) {
    put_fingerprint(bytes, w.model.loaded().fingerprint());
    lacake::seal(bytes);
  }
  attempt([&] {
    const lacake::Snapshot snapshot({(const char*)bytes.data(), bytes.size()}, "snapshot");
    look(snapshot);
    attempt([&] { open(w, snapshot); });
    if (!goes_on(bytes)) return;
    attempt([&] { go_on(w, snapshot); });
    if (snapshot.note("conversation")) attempt([&] { talk(w, snapshot); });
  });
  return 0;
}
