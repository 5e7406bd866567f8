#pragma once

// Sessions kept in files. A session that was saved and opened again goes on bit for bit as if it had never stopped, in
// another process or on another machine with the same model.
//
//     session->save("book.kv");
//     ...
//     const lacake::Snapshot book("book.kv");
//     auto session = engine.open(book);
//
// A file is GGUF; docs/snapshots.md has its fields. It is written beside its place and renamed, so whatever happens
// there is the old file or the new one, whole. Every part has a checksum.
//
// Threads: const members of a Snapshot may be called by several threads at once.
//
// Errors: Error(kInput) whose subject is the file for one that cannot be read or is no snapshot, is damaged (with the
// part's name), of another version, or does not fit what it is opened with.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/engine.h"

namespace lacake {

class PartsFile;

// Bytes that a program keeps beside a session, under a name of 1 to 48 letters, digits, '_' and '.'. A note without
// bytes is not saved.
struct SnapshotNote {
  std::string name;
  std::string bytes;
};

// A checkpoint in a file: of a moment when the session had been fed so many tokens.
struct SavedCheckpoint {
  std::size_t n_tokens = 0;
  std::uint64_t bytes = 0;  // of memory that it took
};

struct SnapshotFacts {
  std::string model_name;
  std::string model_architecture;
  std::string model_fingerprint;  // of the tensors' content and all that computing depends on
  SessionOptions options;         // with which the session was opened, or last resized
  std::size_t n_tokens = 0;       // that it was fed
  std::uint64_t budget_bytes = 0;
  std::uint64_t held_bytes = 0;  // K and V of its entries
  int n_layer = 0;               // of the model, those with a sliding window too
  int n_head_kv = 0;
  std::vector<SavedCheckpoint> checkpoints;  // the earliest first
  std::uint64_t file_bytes = 0;
};

// An open file of a session. It stays mapped as long as this lives; replacing the file meanwhile does it no harm.
class Snapshot {
 public:
  // Checks every byte, at the memory's speed.
  explicit Snapshot(const std::string& path);
  // The same of the file's bytes, which are copied; `name` stands for the path.
  Snapshot(std::string_view bytes, const std::string& name);
  ~Snapshot();
  Snapshot(Snapshot&&) noexcept;
  Snapshot& operator=(Snapshot&&) noexcept;

  const std::string& path() const;
  const SnapshotFacts& facts() const;
  std::vector<Token> tokens() const;
  // The text of each token, control tokens spelled out; bytes, a character may lie in several.
  std::vector<std::string> pieces() const;
  std::string text() const;  // all of them
  // Positions of the tokens that a KV head of a layer keeps, in stored order. REQUIRES: there is such a head.
  std::vector<std::int64_t> kept(int layer, int head) const;
  std::optional<std::string> note(const std::string& name) const;

  const PartsFile& file() const { return *file_; }  // for the library's own use

 private:
  void open();

  std::unique_ptr<PartsFile> file_;
  SnapshotFacts facts_;
};

// Throws Error(kInput) as Engine::open would, where it is of another model.
void require_model(const Snapshot& snapshot, const Model& model);

}  // namespace lacake
