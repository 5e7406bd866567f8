// Sessions that were saved and opened again.

#include "lacake/snapshot.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>
#include <string>
#include <vector>

#include "base/files.h"
#include "engine/test_session.h"
#include "property/specs.h"
#include "snapshot/parts.h"
#include "tools/file_parts.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

constexpr std::size_t kAfter = 24;  // tokens of an answer that are compared

// The logits of an answer's tokens, greedy and without an end.
Logits answer(Session& session, std::size_t n) {
  Logits all = logits_of(session);
  for (std::size_t i = 0; i < n; ++i) {
    const auto logits = session.logits();
    session.step((Token)(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    all.insert(all.end(), session.logits().begin(), session.logits().end());
  }
  return all;
}

struct Case {
  std::string policy;
  std::string types;
  PrefillMode prefill = PrefillMode::kExact;
  const char* model = "wide";
};

std::string name_of(const Case& c) {
  std::string name =
      c.policy + "_" + c.types + (c.prefill == PrefillMode::kExact ? "_exact" : "_streaming") + "_" + c.model;
  for (char& letter : name) {
    if (!std::isalnum((unsigned char)letter)) letter = '_';
  }
  return name;
}

// Sliding windows in two layers of three.
TinyModel sliding() {
  TinyModel tiny = wide();
  tiny.architecture = "gemma3";
  tiny.window = 16;
  tiny.slides = {true, false, true};
  return tiny;
}

TinyModel model_of(const Case& c) { return std::string(c.model) == "wide" ? wide() : sliding(); }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const PolicySpec& spec : simulation::every_choice()) {
    for (const char* types : {"f32", "f16", "q8_0", "q4_0", "bf16", "q8_0,f16"}) {
      for (const PrefillMode mode : {PrefillMode::kExact, PrefillMode::kStreaming})
        all.push_back({spec.text(), types, mode});
    }
  }
  for (const char* policy : {"full", "snapkv", "cake", "streaming-llm"}) {
    all.push_back({policy, "f16", PrefillMode::kExact, "sliding"});
  }
  return all;
}

class Saved : public testing::TestWithParam<Case> {};

// A prompt, an answer, a turn, an answer: saved and opened again after each.
TEST_P(Saved, GoesOnBitForBit) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  Loaded loaded(model_of(c));  // one thread: those that wait spin, and tests run side by side
  SessionOptions options = with(c.policy, "96", c.types, c.prefill, 180, 200);
  if (!options.policy.type->bounded) options.budget = {};
  const Tokens prompt = random_tokens(loaded.tiny, 180, 3), turn = random_tokens(loaded.tiny, 30, 4);

  const auto expected = loaded.engine.open(options);
  expected->prefill(prompt);
  auto session = loaded.engine.open(options);
  session->prefill(prompt);
  const std::string path = folder.path("a.kv");
  const auto stop_and_go_on = [&] {
    session->save(path);
    session.reset();
    session = loaded.engine.open(Snapshot(path));
    ASSERT_TRUE(same_bits(session->logits(), expected->logits()));
    ASSERT_EQ(session->tokens(), expected->tokens());
    ASSERT_EQ(session->use().held_bytes, expected->use().held_bytes);
    ASSERT_EQ(session->use().budget_bytes, expected->use().budget_bytes);
  };
  stop_and_go_on();
  ASSERT_TRUE(same_bits(answer(*session, kAfter), answer(*expected, kAfter)));
  stop_and_go_on();
  expected->prefill(turn);
  session->prefill(turn);
  stop_and_go_on();
  ASSERT_TRUE(same_bits(answer(*session, kAfter), answer(*expected, kAfter)));
  for (int layer = 0; layer < loaded.tiny.n_layer; ++layer) {
    for (int head = 0; head < loaded.tiny.n_head_kv; ++head) {
      EXPECT_EQ(session->kept(layer, head), expected->kept(layer, head));
    }
  }
}

// A prompt, an answer, a turn; a checkpoint before each, saved with the session.
TEST_P(Saved, GoesBackAsTheSessionThatWasNeverStopped) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  Loaded loaded(model_of(c));
  SessionOptions options = with(c.policy, "96", c.types, c.prefill, 180, 200);
  if (!options.policy.type->bounded) options.budget = {};
  constexpr std::size_t kShort = 8;

  const auto session = loaded.engine.open(options);
  const auto empty = session->checkpoint();
  session->prefill(random_tokens(loaded.tiny, 180, 3));
  const auto read = session->checkpoint();
  const Logits after_read = answer(*session, kShort);
  const auto answered = session->checkpoint();
  const Tokens turn = random_tokens(loaded.tiny, 30, 4);
  session->prefill(turn);
  const SessionCheckpoint* const all[] = {empty.get(), read.get(), answered.get()};
  const std::string path = folder.path("a.kv");
  session->save(path, {}, all);
  EXPECT_EQ(session->saved_bytes({}, all), Snapshot(path).facts().file_bytes);
  const Logits after_turn = answer(*session, kShort);

  const Snapshot snapshot(path);
  ASSERT_EQ(snapshot.facts().checkpoints.size(), 3u);
  EXPECT_EQ(snapshot.facts().checkpoints[1].n_tokens, 180u);
  EXPECT_EQ(snapshot.facts().checkpoints[1].bytes, read->bytes());
  ASSERT_TRUE(same_bits(answer(*loaded.engine.open(snapshot), kShort), after_turn));
  const std::size_t some[] = {0, 1, 2};
  const auto [opened, checkpoints] = loaded.engine.open(snapshot, some);
  ASSERT_EQ(checkpoints.size(), 3u);
  EXPECT_EQ(checkpoints[1]->bytes(), read->bytes());
  ASSERT_TRUE(same_bits(answer(*opened, kShort), after_turn));
  opened->go_back(*checkpoints[2]);
  opened->prefill(turn);
  ASSERT_TRUE(same_bits(answer(*opened, kShort), after_turn));
  opened->go_back(*checkpoints[1]);
  ASSERT_TRUE(same_bits(answer(*opened, kShort), after_read));
  opened->go_back(*checkpoints[0]);
  EXPECT_TRUE(opened->tokens().empty());
}

INSTANTIATE_TEST_SUITE_P(Sessions, Saved, testing::ValuesIn(cases()),
                         [](const auto& saved) { return name_of(saved.param); });

class Snapshots : public testing::Test {
 protected:
  std::unique_ptr<Session> read(const SessionOptions& options, std::size_t n = 60) {
    auto session = loaded_.engine.open(options);
    session->prefill(random_tokens(loaded_.tiny, n, 3));
    return session;
  }
  // Of a file, whatever checkpoints it has.
  std::string refused(const std::string& path) {
    return refusal(Error::Kind::kInput, [&] {
      const Snapshot snapshot(path);
      std::vector<std::size_t> all(snapshot.facts().checkpoints.size());
      std::iota(all.begin(), all.end(), 0);
      loaded_.engine.open(snapshot, all);
    });
  }
  TemporaryFolder folder_;
  Loaded loaded_{small(), 1};
};

TEST_F(Snapshots, ASessionThatWasFedNothingIsSavedToo) {
  const std::string path = folder_.path("a.kv");
  loaded_.engine.open(with("snapkv:window=4", "32"))->save(path);
  const auto session = loaded_.engine.open(Snapshot(path));
  EXPECT_TRUE(session->tokens().empty());
  const Tokens prompt = random_tokens(loaded_.tiny, 60, 3);
  session->prefill(prompt);
  EXPECT_TRUE(same_bits(session->logits(), read(with("snapkv:window=4", "32"))->logits()));
}

TEST_F(Snapshots, AResizedSessionKeepsItsSize) {
  const std::string path = folder_.path("a.kv");
  for (const char* size : {"20", "64"}) {
    const auto session = read(with("h2o", "40"));
    session->resize(Budget::parse(size));
    session->save(path);
    const auto opened = loaded_.engine.open(Snapshot(path));
    EXPECT_EQ(opened->use().budget_bytes, session->use().budget_bytes);
    EXPECT_TRUE(same_bits(answer(*opened, 40), answer(*session, 40))) << size;
  }
}

TEST_F(Snapshots, FactsTextAndNotesAreThereWithoutAModel) {
  const std::string path = folder_.path("a.kv");
  const auto session = read(with("tova", "50%", "f16", PrefillMode::kExact, 60));
  const SnapshotNote notes[] = {{"conversation", std::string("a\0b\xff", 4)}, {"empty", ""}};
  session->save(path, notes);
  const Snapshot snapshot(path);
  EXPECT_EQ(snapshot.facts().options.policy.text(), "tova");
  EXPECT_EQ(snapshot.facts().options.budget.text(), "50%");
  EXPECT_EQ(snapshot.facts().n_tokens, 60u);
  EXPECT_EQ(snapshot.facts().held_bytes, session->use().held_bytes);
  EXPECT_EQ(snapshot.facts().file_bytes, read_file(path).size());
  EXPECT_EQ(snapshot.tokens(), session->tokens());
  std::string text;
  for (const std::string& piece : snapshot.pieces()) text += piece;
  std::string expected;
  for (const Token token : session->tokens()) expected += loaded_.model.piece(token, true);
  EXPECT_EQ(text, expected);
  EXPECT_EQ(snapshot.kept(2, 1), session->kept(2, 1));
  EXPECT_EQ(snapshot.note("conversation"), notes[0].bytes);
  EXPECT_EQ(snapshot.note("empty"), std::nullopt);
}

TEST_F(Snapshots, ANoteHasANameOfItsOwn) {
  const auto session = read(with("tova", "20"));
  const std::string path = folder_.path("a.kv");
  const auto refused_names = [&](std::vector<SnapshotNote> notes) {
    return refusal(Error::Kind::kUsage, [&] { session->save(path, notes); });
  };
  for (const std::string& name : {std::string(), std::string("a b"), std::string("a/b"), std::string(49, 'a')}) {
    EXPECT_TRUE(contains(refused_names({{name, "x"}}), "note: expected a name of 1 to 48 letters")) << name;
  }
  EXPECT_TRUE(contains(refused_names({{"a", "x"}, {"a", "y"}}), "\"a\" twice"));
  EXPECT_EQ(read_file_if_there(path), std::nullopt);
  const SnapshotNote longest[] = {{std::string(48, 'a'), "x"}};
  session->save(path, longest);
  EXPECT_EQ(Snapshot(path).note(longest[0].name), "x");
}

TEST_F(Snapshots, AnotherModelIsRefusedByName) {
  const std::string path = folder_.path("a.kv");
  read(with("tova", "20"))->save(path);
  TinyModel other = small();
  other.seed = 2;
  Loaded second(other);
  const std::string line = refusal(Error::Kind::kInput, [&] { second.engine.open(Snapshot(path)); });
  EXPECT_TRUE(contains(line, path + ": model: expected ")) << line;
  EXPECT_TRUE(contains(line, "with content")) << line;
  // The same content in another file of another name, under another chat template.
  TinyModel same = small();
  same.edit = [](gguf_context* g) { gguf_set_val_str(g, "tokenizer.chat_template", "{{ messages }}"); };
  Loaded third(same);
  EXPECT_EQ(third.engine.open(Snapshot(path))->tokens().size(), 60u);
}

TEST_F(Snapshots, OtherFilesAreRefusedInALine) {
  EXPECT_EQ(refused(folder_.path("none")), folder_.path("none") + ": cannot be opened: No such file or directory");
  EXPECT_TRUE(contains(refused(folder_.file("text", "hello")),
                       "expected a conversation that lacake saved, found a file of another kind"));
  EXPECT_TRUE(contains(refused(folder_.file("empty", "")), "found a file of another kind"));
  EXPECT_TRUE(
      contains(refused(loaded_.file.path()), "a GGUF file that does not end as one; it is a model, or was cut short"));
  EXPECT_TRUE(contains(refused(folder_.path()), "expected a file, found a folder"));
}

TEST_F(Snapshots, AnUnknownVersionIsRefused) {
  PartsWriter file;
  file.set("general.type", "lacake.session");
  file.set("snapshot.version", std::uint64_t{99});
  file.write(folder_.path("a.kv"));
  EXPECT_EQ(refused(folder_.path("a.kv")), folder_.path("a.kv") + ": snapshot.version: expected 1 to 3, found 99");
}

TEST_F(Snapshots, ASessionThatReadsIsNotSaved) {
  const auto session = loaded_.engine.open(with("full"));
  Session* const sessions[] = {session.get()};
  const Tokens prompt = random_tokens(loaded_.tiny, 60, 3);
  const auto job = loaded_.engine.start_prefill(sessions, prompt);
  job->advance();
  const std::string path = folder_.path("a.kv");
  EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { session->save(path); }), "one that reads a prompt"));
  EXPECT_EQ(read_file_if_there(path), std::nullopt);
}

TEST_F(Snapshots, TakeTheirMemoryFromThePool) {
  const std::string path = folder_.path("a.kv");
  const auto session = read(with("tova", "20"));
  session->save(path);
  Engine tight(loaded_.model, {.threads = 1, .kv_memory = session->use().budget_bytes});
  const auto first = tight.open(Snapshot(path));
  EXPECT_TRUE(contains(refusal(Error::Kind::kCapacity, [&] { tight.open(Snapshot(path)); }), "kv_memory: expected"));
}

// Every byte of a small file, and every length: refused in a line, or the same session.
TEST_F(Snapshots, NoDamageIsTakenForASession) {
  const std::string path = folder_.path("a.kv");
  const auto session = read(with("tova", "12"), 20);
  const auto checkpoint = session->checkpoint();
  answer(*session, 1);
  const SessionCheckpoint* const checkpoints[] = {checkpoint.get()};
  const std::size_t places[] = {0};
  session->save(path, {}, checkpoints);
  const std::string whole = read_file(path);
  const Logits expected = logits_of(*session);
  const int file = ::open(path.c_str(), O_RDWR);
  ASSERT_GE(file, 0);
  const auto put = [&](std::size_t at, char byte) { ASSERT_EQ(::pwrite(file, &byte, 1, (off_t)at), 1); };
  std::size_t n_same = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    put(i, (char)(whole[i] ^ (1 << (i % 8))));
    try {
      const auto opened = loaded_.engine.open(Snapshot(path), places).session;
      ASSERT_TRUE(same_bits(opened->logits(), expected)) << "byte " << i;
      ASSERT_EQ(opened->kept(0, 0), session->kept(0, 0)) << "byte " << i;
      ++n_same;
    } catch (const Error& error) {
      ASSERT_TRUE(std::string(error.what()).starts_with(path)) << error.what();
    }
    put(i, whole[i]);
  }
  EXPECT_LT(n_same, whole.size() / 20);  // padding only
  for (std::size_t n = whole.size(); n-- > 0;) {
    ASSERT_EQ(::ftruncate(file, (off_t)n), 0);
    ASSERT_TRUE(refused(path).starts_with(path)) << n;
  }
  ::close(file);
}

// Numbers that no session can have, under checksums that are right.
TEST_F(Snapshots, ImpossibleContentIsRefused) {
  const std::string path = folder_.path("a.kv");
  const auto session = read(with("tova", "20"), 40);
  answer(*session, 10);  // rows that moved
  session->save(path);
  const auto with_part = [&](const std::string& name, std::size_t byte, char value) {
    std::string bytes = read_file(path);
    const PartsFile file(path);
    const FilePart part = file.part(name);
    const std::size_t at =
        (std::size_t)(part.bytes.data() - file.part("tokens").bytes.data()) +
        bytes.find(std::string((const char*)file.part("tokens").bytes.data(), file.part("tokens").bytes.size()));
    bytes[at + byte] = value;
    EXPECT_TRUE(seal(std::as_writable_bytes(std::span(bytes))));
    return refused(folder_.file("b.kv", bytes));
  };
  EXPECT_TRUE(contains(with_part("lengths", 0, 127), "part policy.n_fed"));
  EXPECT_TRUE(contains(with_part("lengths", 1, 3), "part lengths"));
  EXPECT_TRUE(contains(with_part("lengths", 1, -1), "part lengths"));
  EXPECT_TRUE(contains(with_part("blk.0.positions", 0, 120), "part blk.0.positions"));
  EXPECT_TRUE(contains(with_part("blk.0.positions", 0, -1), "part blk.0.positions"));
  EXPECT_TRUE(contains(with_part("blk.0.slots", 0, 77), "part blk.0.slots"));
  EXPECT_TRUE(contains(with_part("policy.size", 0, 0), "part policy.size"));
  EXPECT_TRUE(contains(with_part("policy.scores", 3, 127), "part policy.scores"));  // not finite
}

EditedPart& part_of(FileParts& all, const std::string& name) {
  const auto at = std::find_if(all.parts.begin(), all.parts.end(), [&](const EditedPart& p) { return p.name == name; });
  if (at == all.parts.end()) throw std::runtime_error("no part " + name);
  return *at;
}

template <class Number>
std::vector<std::int64_t> widened(const EditedPart& part) {
  std::vector<Number> values(part.bytes.size() / sizeof(Number));
  std::memcpy(values.data(), part.bytes.data(), part.bytes.size());
  return {values.begin(), values.end()};
}

std::vector<std::int64_t> integers_of(const EditedPart& part) {
  if (part.type == GGML_TYPE_I8) return widened<std::int8_t>(part);
  return part.type == GGML_TYPE_I16 ? widened<std::int16_t>(part) : widened<std::int64_t>(part);
}

void set_integers(EditedPart& part, const std::vector<std::int64_t>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  part = {part.name, GGML_TYPE_I64, {(std::int64_t)values.size()}, {bytes.begin(), bytes.end()}};
}

void set_integer(FileParts& all, const std::string& name, std::size_t at, std::int64_t value) {
  EditedPart& part = part_of(all, name);
  std::vector<std::int64_t> values = integers_of(part);
  values.at(at) = value;
  set_integers(part, values);
}

// The newest entry of a head goes, out of everything that the cache has of it.
void forget_newest(FileParts& all, const TinyModel& tiny, int layer, int head, bool per_head) {
  const std::string block = "blk." + std::to_string(layer) + ".";
  const std::size_t n_heads = (std::size_t)tiny.n_head_kv, lane = (std::size_t)layer * n_heads + (std::size_t)head;
  std::vector<std::int64_t> lengths = integers_of(part_of(all, "lengths"));
  std::size_t end = 0;  // of the head's rows
  for (std::size_t i = (std::size_t)layer * n_heads; i <= lane; ++i) end += (std::size_t)lengths[i];
  for (const char* rows : {"k", "v"}) {
    EditedPart& part = part_of(all, block + rows);
    const std::size_t row = part.bytes.size() / (std::size_t)part.shape[1];
    const auto at = part.bytes.begin() + (std::ptrdiff_t)((end - 1) * row);
    part.bytes.erase(at, at + (std::ptrdiff_t)row);
    --part.shape[1];
  }
  if (per_head || head == 0) {
    std::vector<std::byte>& positions = part_of(all, block + "positions").bytes;  // of a byte each, as all are small
    positions.erase(positions.begin() + (std::ptrdiff_t)(end - 1));
    part_of(all, block + "positions").shape = {(std::int64_t)positions.size()};
  }
  lengths[lane] -= 1;
  set_integers(part_of(all, "lengths"), lengths);
}

struct Impossible {
  const char* policy;
  std::function<void(FileParts&)> edit;
  const char* says;
};

TEST_F(Snapshots, CheckpointsThatCannotBeGoneBackToAreNotSaved) {
  const std::string path = folder_.path("a.kv");
  const auto session = read(with("tova", "20"), 40), other = read(with("tova", "20"), 40);
  const auto first = session->checkpoint();
  answer(*session, 2);
  const auto second = session->checkpoint(), foreign = other->checkpoint();
  const auto saving = [&](std::vector<const SessionCheckpoint*> checkpoints) {
    return refusal(Error::Kind::kState, [&] { session->save(path, {}, checkpoints); });
  };
  EXPECT_TRUE(contains(saving({foreign.get()}), "checkpoint: expected those of this session"));
  EXPECT_TRUE(contains(saving({second.get(), first.get()}), "a later one first"));
  session->go_back(*first);
  EXPECT_TRUE(contains(saving({second.get()}), "checkpoint: expected those of this session"));
  session->resize(Budget::parse("30"));
  EXPECT_TRUE(contains(saving({first.get()}), "checkpoint: expected those of this session"));
  EXPECT_EQ(::access(path.c_str(), F_OK), -1);
}

// Each part of them can be; all of it together would have memory read later that is not the session's.
TEST_F(Snapshots, StateThatNoSessionCanReachIsRefused) {
  const auto number = [](const char* name, std::int64_t value, std::size_t at = 0) {
    return [=](FileParts& all) { set_integer(all, name, at, value); };
  };
  const std::vector<Impossible> cases = {
      {"full",
       [&](FileParts& all) {
         for (int h : {1, 0}) forget_newest(all, loaded_.tiny, 1, h, false);
       },
       "lengths"},
      {"full",
       [&](FileParts& all) {
         for (int l : {0, 1, 2, 3})
           for (int h : {1, 0}) forget_newest(all, loaded_.tiny, l, h, false);
         set_integer(all, "policy.n_held", 0, 19);
       },
       "lengths"},
      {"cake:window=2", [&](FileParts& all) { forget_newest(all, loaded_.tiny, 1, 1, true); }, "lengths"},
      {"cake:window=2", number("policy.n_fed", 0), "policy.n_fed"},
      {"cake:window=2",
       [](FileParts& all) { std::memcpy(part_of(all, "policy.preference").bytes.data(), "\0\0\x80\xbf", 4); },
       "policy.preference"},
      {"tova", number("policy.n_fed", 1), "policy.n_fed"},
      {"tova", number("policy.size", 10), "policy.size"},
      {"snapkv:window=2,heads=adaptive", number("policy.size", 1), "policy.size"},
      {"pyramidkv:window=2", number("policy.size", 1000), "policy.size"},
      {"lacache:span=1,sinks=1", number("policy.cursor", 9), "policy.cursor"},
      {"lacache:span=1,sinks=1", number("policy.last_query", INT32_MAX), "policy.last_query"},
      {"tova", number("at.0.policy.n_fed", 1), "at.0.policy.n_fed"},
      {"tova", number("at.0.lengths", -1), "at.0.lengths"},
      {"tova", number("at.0.lengths", 99), "at.0.policy.n_fed"},
      {"full", number("at.0.lengths", 19), "at.0.lengths"},
      {"cake:window=2", [&](FileParts& all) { part_of(all, "at.0.blk.1.v").name = "x"; }, "at.0.blk.1.v"},
      {"full", [&](FileParts& all) { part_of(all, "at.0.logits").name = "blk.1.slots"; }, "at.0.logits"},
      {"full",
       [&](FileParts& all) {
         all.parts.push_back({"blk.1.slots", GGML_TYPE_I8, {20}, std::vector<std::byte>(20)});
       },
       "blk.1.slots"},
  };
  for (const Impossible& impossible : cases) {
    SCOPED_TRACE(std::string(impossible.policy) + " " + impossible.says);
    const std::string path = folder_.path("a.kv");
    const bool all = std::string(impossible.policy) == "full";
    const auto session = read(with(impossible.policy, all ? "" : "12", "f16", PrefillMode::kExact, 20), 20);
    const auto checkpoint = session->checkpoint();
    const SessionCheckpoint* const checkpoints[] = {checkpoint.get()};
    session->save(path, {}, checkpoints);
    const std::string bytes = read_file(path);
    std::optional<FileParts> parts = take_apart(std::as_bytes(std::span(bytes)));
    ASSERT_TRUE(parts);
    EXPECT_EQ(put_together(*parts), bytes);
    impossible.edit(*parts);
    const std::string line = refused(folder_.file("b.kv", put_together(*parts)));
    EXPECT_TRUE(contains(line, std::string("b.kv: part ") + impossible.says + ": ")) << line;
  }
}

// What Budget::parse refuses, a file is refused for too.
TEST_F(Snapshots, ABudgetThatNobodyCanGiveIsRefused) {
  const std::string path = folder_.path("a.kv");
  read(with("tova", "20"), 40)->save(path);
  const std::string bytes = read_file(path);
  for (const double value : {20.5, 0.0, -20.0, 1e13, (double)NAN}) {
    std::optional<FileParts> parts = take_apart(std::as_bytes(std::span(bytes)));
    ASSERT_TRUE(parts);
    for (auto& [key, entry] : parts->metadata) {
      if (key == "session.kv_budget.value") entry = value;
    }
    const std::string line = refused(folder_.file("b.kv", put_together(*parts)));
    EXPECT_TRUE(contains(line, "b.kv: session.kv_budget.value: ")) << line;
  }
}

// Keys that were stored the other way would be turned twice, or not at all.
TEST_F(Snapshots, KeysThatAreStoredOtherwiseAreRefused) {
  const std::string path = folder_.path("a.kv");
  read(with("tova", "20"))->save(path);
  const std::string bytes = read_file(path);
  std::optional<FileParts> parts = take_apart(std::as_bytes(std::span(bytes)));
  ASSERT_TRUE(parts);
  const auto key = std::find_if(parts->metadata.begin(), parts->metadata.end(),
                                [](const auto& field) { return field.first == "cache.keys_rotated"; });
  ASSERT_NE(key, parts->metadata.end());
  key->second = false;
  EXPECT_TRUE(
      contains(refused(folder_.file("b.kv", put_together(*parts))), "cache.keys_rotated: expected as its policy"));
}

// Version 1 stored all rows as they are.
TEST_F(Snapshots, OfVersion1OnlyFilesWithoutRowsOfFewBitsAreRead) {
  Loaded loaded(wide());
  const std::string path = folder_.path("a.kv");
  const auto as_version_1 = [&](const char* types) {
    const auto session = loaded.engine.open(with("tova", "20", types));
    session->prefill(random_tokens(loaded.tiny, 60, 3));
    session->save(path);
    const std::string bytes = read_file(path);
    std::optional<FileParts> parts = take_apart(std::as_bytes(std::span(bytes)));
    if (!parts) throw std::runtime_error("not a file of parts");
    std::erase_if(parts->metadata, [](const auto& field) { return field.first.ends_with("_mixed"); });
    for (auto& [key, value] : parts->metadata) {
      if (key == "snapshot.version") value = std::uint64_t{1};
    }
    folder_.file("b.kv", put_together(*parts));
    return logits_of(*session);
  };
  const Logits expected = as_version_1("q8_0");
  EXPECT_TRUE(same_bits(loaded.engine.open(Snapshot(folder_.path("b.kv")))->logits(), expected));
  for (const auto& [types, key] : {std::pair("q4_0", "keys"), std::pair("f16,q4_0", "values")}) {
    as_version_1(types);
    EXPECT_EQ(
        refusal(Error::Kind::kInput, [&] { loaded.engine.open(Snapshot(folder_.path("b.kv"))); }),
        folder_.path("b.kv") + ": cache." + key +
            "_mixed: expected true for q4_0, since snapshot.version 2, found false: its text has to be read again");
  }
}

// Before version 3 keys of 8 bits had what a bias gives them all.
TEST_F(Snapshots, OfVersion2KeysOf8BitsAreReadWhereTheirModelHasNoBias) {
  TinyModel biased = wide();
  biased.architecture = "qwen2", biased.biases = true;
  const auto as_version_2 = [&](Loaded& loaded, const char* types) {
    const auto session = loaded.engine.open(with("tova", "20", types));
    session->prefill(random_tokens(loaded.tiny, 60, 3));
    session->save(folder_.path("a.kv"));
    const std::string bytes = read_file(folder_.path("a.kv"));
    std::optional<FileParts> parts = take_apart(std::as_bytes(std::span(bytes)));
    if (!parts) throw std::runtime_error("not a file of parts");
    std::erase_if(parts->metadata, [](const auto& field) { return field.first == "cache.keys_centered"; });
    for (auto& [key, value] : parts->metadata) {
      if (key == "snapshot.version") value = std::uint64_t{2};
    }
    folder_.file("b.kv", put_together(*parts));
    return logits_of(*session);
  };
  Loaded without(wide()), with_bias(biased);
  for (const auto& [loaded, types] : {std::pair(&without, "q8_0"), {&without, "q4_0"}, {&with_bias, "q4_0"}}) {
    const Logits expected = as_version_2(*loaded, types);
    EXPECT_TRUE(same_bits(loaded->engine.open(Snapshot(folder_.path("b.kv")))->logits(), expected)) << types;
  }
  as_version_2(with_bias, "q8_0");
  EXPECT_EQ(refusal(Error::Kind::kInput, [&] { with_bias.engine.open(Snapshot(folder_.path("b.kv"))); }),
            folder_.path("b.kv") +
                ": cache.keys_centered: expected true for q8_0, since snapshot.version 3, found false: its text has to "
                "be read again");
}

// A part in the place of the list of checksums would be read without having been checked.
TEST_F(Snapshots, AListOfChecksumsUnderAnotherNameIsRefused) {
  read(with("tova", "20"))->save(folder_.path("a.kv"));
  std::string bytes = read_file(folder_.path("a.kv"));
  const std::size_t at = bytes.find("checksums");
  ASSERT_NE(at, bytes.npos);
  bytes.replace(at, 9, "note.text");
  ASSERT_TRUE(seal(std::as_writable_bytes(std::span(bytes))));
  EXPECT_TRUE(contains(refused(folder_.file("b.kv", bytes)), "its header does not fit its list of checksums"));
}

// --- within the process ------------------------------------------------------------------------------------------

TEST_F(Snapshots, AForkGoesOnAsTheSessionDoesAndNeitherSeesTheOther) {
  for (const char* policy : {"full", "tova", "cake:window=4", "lacache:span=2,sinks=1"}) {
    SCOPED_TRACE(policy);
    const SessionOptions options =
        with(policy, std::string(policy) == "full" ? "" : "32", "f16", PrefillMode::kExact, 60);
    const auto session = read(options), expected = read(options);
    const auto fork = loaded_.engine.fork(*session);
    EXPECT_EQ(fork->tokens(), session->tokens());
    fork->prefill(random_tokens(loaded_.tiny, 20, 9));
    const Logits own = answer(*expected, kAfter);
    EXPECT_TRUE(same_bits(answer(*session, kAfter), own));
    const auto second = loaded_.engine.fork(*session);
    const Logits after_fork = answer(*second, 8);
    EXPECT_TRUE(same_bits(after_fork, answer(*session, 8)));
  }
}

// Whatever became of it meanwhile; also where rows are only ever appended, and in layers that slide.
TEST_F(Snapshots, SessionsBeginWithTheStemOfOneThatHasGone) {
  Loaded slides(sliding());
  for (Loaded* loaded : {&loaded_, &slides}) {
    for (const char* policy : {"full", "tova", "cake:window=4", "streaming-llm:sinks=2"}) {
      SCOPED_TRACE(policy);
      const SessionOptions options =
          with(policy, std::string(policy) == "full" ? "" : "32", "f16", PrefillMode::kExact, 60);
      const auto expected = loaded->engine.open(options);
      expected->prefill(random_tokens(loaded->tiny, 20, 3));
      std::unique_ptr<SessionStem> stem;
      {
        const auto session = loaded->engine.open(options);
        session->prefill(random_tokens(loaded->tiny, 20, 3));
        stem = session->stem();
        session->prefill(random_tokens(loaded->tiny, 15, 4));
      }
      const auto first = loaded->engine.open(*stem), second = loaded->engine.open(*stem);
      EXPECT_EQ(first->tokens(), expected->tokens());
      (void)answer(*first, 8);
      EXPECT_TRUE(same_bits(answer(*second, kAfter), answer(*expected, kAfter)));
    }
  }
}

TEST_F(Snapshots, AForkOfAnotherEnginesSessionIsRefused) {
  Loaded other(small());
  const auto session = other.engine.open(with("full"));
  EXPECT_TRUE(
      contains(refusal(Error::Kind::kState, [&] { loaded_.engine.open(*session->stem()); }), "another engine's"));
  EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { loaded_.engine.fork(*session); }), "another engine's"));
}

TEST_F(Snapshots, ASessionGoesBackToACheckpointBitForBit) {
  for (const char* policy : {"full", "streaming-llm", "h2o", "cake:window=4"}) {
    SCOPED_TRACE(policy);
    const SessionOptions options =
        with(policy, std::string(policy) == "full" ? "" : "32", "q8_0", PrefillMode::kExact, 60);
    Loaded loaded(wide());
    const auto session = loaded.engine.open(options);
    session->prefill(random_tokens(loaded.tiny, 60, 3));
    const auto first = session->checkpoint();
    EXPECT_EQ(first->n_tokens(), 60u);
    const Logits expected = answer(*session, kAfter);
    const auto second = session->checkpoint();
    session->prefill(random_tokens(loaded.tiny, 25, 4));
    session->go_back(*second);
    session->go_back(*first);
    EXPECT_TRUE(same_bits(answer(*session, kAfter), expected));
    // What is later than a moment that was gone back to is gone.
    EXPECT_NE(refusal(Error::Kind::kState, [&] { session->go_back(*second); }), "");
    session->go_back(*first);
    session->resize(Budget::parse("200"));
    EXPECT_NE(refusal(Error::Kind::kState, [&] { session->go_back(*first); }), "");
  }
}

}  // namespace
}  // namespace lacake
