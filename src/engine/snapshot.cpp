#include "lacake/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "engine/load_session.h"
#include "engine/save_session.h"
#include "engine/saved_session.h"
#include "lacake/error.h"

namespace lacake {
namespace {

std::string note_part(const std::string& name) { return "note." + name; }

constexpr std::size_t kLongestName = 48;  // a part's name has room for 63 bytes

void require_names(std::span<const SnapshotNote> notes) {
  const auto allowed = [](char c) { return std::isalnum((unsigned char)c) || c == '_' || c == '.'; };
  std::set<std::string> seen;
  for (const SnapshotNote& note : notes) {
    const std::string& name = note.name;
    if (name.empty() || name.size() > kLongestName || !std::all_of(name.begin(), name.end(), allowed)) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "note",
                   .expected = fmt::format("a name of 1 to {} letters, digits, '_' and '.'", kLongestName),
                   .found = fmt::format("\"{}\"", name)});
    }
    if (seen.insert(name).second) continue;
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "note",
                 .expected = "each name once",
                 .found = fmt::format("\"{}\" twice", name)});
  }
}

}  // namespace

Snapshot::Snapshot(const std::string& path) : file_(std::make_unique<PartsFile>(path)) { open(); }
Snapshot::Snapshot(std::string_view bytes, const std::string& name) : file_(std::make_unique<PartsFile>(bytes, name)) {
  open();
}

void Snapshot::open() {
  require_snapshot(*file_);
  facts_.model_name = file_->text("model.name");
  facts_.model_architecture = file_->text("model.architecture");
  facts_.model_fingerprint = file_->text("model.fingerprint");
  facts_.options = saved_options(*file_);
  facts_.n_tokens = file_->number("session.n_tokens", 0, INT32_MAX);
  facts_.budget_bytes = file_->number("session.budget_bytes", 0, INT64_MAX);
  facts_.held_bytes = saved_row_bytes(*file_);
  facts_.n_layer = (int)file_->number("cache.n_layer", 1, INT16_MAX);
  facts_.n_head_kv = (int)file_->number("cache.n_head_kv", 1, INT16_MAX);
  facts_.checkpoints = saved_checkpoints(*file_);
  facts_.file_bytes = file_->bytes();
}
Snapshot::~Snapshot() = default;
Snapshot::Snapshot(Snapshot&&) noexcept = default;
Snapshot& Snapshot::operator=(Snapshot&&) noexcept = default;

const std::string& Snapshot::path() const { return file_->path(); }
void require_model(const Snapshot& snapshot, const Model& model) { require_model(snapshot.file(), model.loaded()); }

std::string Snapshot::text() const { return file_->part_text("text"); }
const SnapshotFacts& Snapshot::facts() const { return facts_; }

std::vector<Token> Snapshot::tokens() const {
  const std::vector<std::int64_t> tokens = file_->integers("tokens");
  return {tokens.begin(), tokens.end()};
}

std::vector<std::string> Snapshot::pieces() const {
  const std::string text = file_->part_text("text");
  std::vector<std::string> pieces;
  std::size_t at = 0;
  for (const std::int64_t length : file_->integers("text_lengths")) {
    if (length < 0 || (std::uint64_t)length > text.size() - at) {
      file_->fail("part text_lengths", "lengths of pieces of the text", std::to_string(length));
    }
    pieces.push_back(text.substr(at, (std::size_t)length));
    at += (std::size_t)length;
  }
  return pieces;
}

std::vector<std::int64_t> Snapshot::kept(int layer, int head) const { return saved_positions(*file_, layer, head); }

std::optional<std::string> Snapshot::note(const std::string& name) const {
  if (!file_->has_part(note_part(name))) return {};
  return file_->part_text(note_part(name));
}

std::unique_ptr<Session> Engine::open(const Snapshot& snapshot) { return open(snapshot, {}).session; }

Engine::OpenedSession Engine::open(const Snapshot& snapshot, std::span<const std::size_t> checkpoints) {
  state_->sessions.reserve(state_->sessions.size() + 1);
  LoadedSession loaded = load_session(*state_, snapshot.file(), checkpoints);
  OpenedSession opened;
  for (SessionCheckpoint::State& moment : loaded.checkpoints) {
    auto state = std::make_unique<SessionCheckpoint::State>(std::move(moment));
    opened.checkpoints.push_back(std::unique_ptr<SessionCheckpoint>(new SessionCheckpoint(std::move(state))));
  }
  opened.session.reset(new Session(std::move(loaded.session)));
  return opened;
}

namespace {

// The parts of a session's file. The session and the checkpoints live as long.
PartsWriter parts_of(const SessionState& session, std::span<const SnapshotNote> notes,
                     std::span<const SessionCheckpoint* const> checkpoints) {
  session.check_ready();
  require_names(notes);
  std::vector<const SessionCopy*> moments;
  for (const SessionCheckpoint* checkpoint : checkpoints) {
    const SessionCheckpoint::State& moment = checkpoint->state();
    const bool in_order = moments.empty() || moments.back()->n_tokens <= moment.copy.n_tokens;
    if (moment.session != &session || !moment.can_go_back() || !in_order) {
      throw Error({.kind = Error::Kind::kState,
                   .subject = "checkpoint",
                   .expected = "those of this session that can be gone back to, the earliest first",
                   .found = in_order ? "another" : "a later one first"});
    }
    moments.push_back(&moment.copy);
  }
  PartsWriter file;
  save_session(session, moments, file);
  for (const SnapshotNote& note : notes) {
    if (!note.bytes.empty()) file.add_text(note_part(note.name), note.bytes);
  }
  return file;
}

}  // namespace

void Session::save(const std::string& path, std::span<const SnapshotNote> notes,
                   std::span<const SessionCheckpoint* const> checkpoints) const {
  parts_of(*state_, notes, checkpoints).write(path);
}

std::string Session::saved(std::span<const SnapshotNote> notes,
                           std::span<const SessionCheckpoint* const> checkpoints) const {
  const PartsWriter parts = parts_of(*state_, notes, checkpoints);
  std::string bytes;
  bytes.reserve(parts.bytes());
  parts.write_to([&](std::string_view piece) { bytes += piece; });
  return bytes;
}

std::uint64_t Session::saved_bytes(std::span<const SnapshotNote> notes,
                                   std::span<const SessionCheckpoint* const> checkpoints) const {
  return parts_of(*state_, notes, checkpoints).bytes();
}

}  // namespace lacake
