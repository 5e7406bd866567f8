#pragma once

// An Engine computes with one Model on one machine; a Session is one conversation: its tokens, KV cache and policy; a
// PrefillJob reads a prompt into sessions, a bounded step at a time.
//
//     lacake::Model model("model.gguf");
//     lacake::Engine engine(model, {});
//     auto session = engine.open({.policy = lacake::PolicySpec::parse("lacache"),
//                                 .budget = lacake::Budget::parse("512"), .prompt_tokens = prompt.tokens.size(),
//                                 .new_tokens = 256});
//     std::cout << lacake::generate(model, engine, *session, prompt, {}).text;
//
// The last line is lacake/generation.h, which makes of a prompt an answer's text. What it stands on: Session::prefill
// feeds a prompt, Session::logits say what may come next, and Session::step or Engine::step feeds the token chosen.
//
// Threads: an engine, its sessions and its jobs are one thing, used by one thread at a time (any thread; the engine has
// its own for computing). Several engines may run at the same time, also over one model.
//
// Errors: every call that throws leaves its session as it was before the call, or says otherwise where it is declared;
// Session::status() tells.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/budget.h"
#include "lacake/model.h"
#include "lacake/policy.h"

namespace lacake {

// How a prompt meets the cache.
//   kExact      every token attends to all tokens of the prompt before it; after each layer its entries are cut to what
//               the policy keeps. Peak of K and V: the budget and one whole layer.
//   kStreaming  chunk by chunk over a compacted cache. Memory constant, time linear in the prompt.
enum class PrefillMode { kExact, kStreaming };
const char* prefill_name(PrefillMode mode);  // "exact", "streaming"

// What K and V are stored as: one of the names below, f16 by default, each on its own ("q8_0,f16"). Types in blocks
// (from q8_0 on) need a head size that is a multiple of 32.
struct CacheTypes {
  static constexpr std::array<std::string_view, 9> kNames = {"f32",  "f16",  "bf16", "q8_0",  "q5_1",
                                                             "q5_0", "q4_1", "q4_0", "iq4_nl"};
  std::string k = "f16";
  std::string v = "f16";

  static CacheTypes parse(std::string_view text);  // throws Error(kUsage) about kv_type
  std::string text() const;
};

struct SessionOptions {
  PolicySpec policy = PolicySpec::parse("full");
  // None: a policy that keeps everything reserves the length of the conversation. One that evicts needs a budget, or
  // its setting cache_size.
  Budget budget = {};
  CacheTypes types = {};
  PrefillMode prefill = PrefillMode::kExact;
  std::size_t chunk = 0;  // tokens a streaming chunk; 0: an eighth of the budget, at least 32
  // Tokens of the prompt, and tokens that may follow it. A budget given as a share is a share of `prompt_tokens`; a
  // policy that keeps everything reserves room for both. Both 0: for as many tokens as the model was trained for.
  std::size_t prompt_tokens = 0;
  std::size_t new_tokens = 0;
  // Under a policy that needs texts repeated (PolicyTraits::repeat_chunk): an upper bound on the tokens that a repeat
  // probe has beside those it repeats (instruction, template). Memory is planned by it, and repeats near the model's
  // training length are shortened by it: where it is too small such a text is refused.
  std::size_t repeat_frame = 64;
  // Nothing is fed at once after the first prompt: later calls of prefill() are refused, and no memory is planned for
  // taking a later turn back (MemoryPlan::turn_copy).
  bool single_turn = false;
  // If the user gave the budget as a share of the text and `budget` says it in entries or bytes, that share, in 0 to 1;
  // 0: it was none. Some policies derive settings from it (PolicyType::settings_at_opening). They are fixed when the
  // session is opened, and stay whatever its budget becomes.
  double budget_share = 0;
};

// Bytes by purpose, before anything runs. `cache` and `layer_workspace` are exact; the rest are what the parts say.
struct MemoryPlan {
  std::uint64_t program = 0;          // resident before the model was opened
  std::uint64_t vocabulary = 0;       // vocabulary and other metadata, measured when the model was opened
  std::uint64_t mapped_weights = 0;   // pages of the file
  std::uint64_t second_weights = 0;   // repacked copies
  std::uint64_t cache = 0;            // the arena: K and V, the budget
  std::uint64_t policy_metadata = 0;  // scores, orders of entries
  std::uint64_t layer_workspace = 0;  // K and V of one layer's segment and one repeat, what is measured
  std::uint64_t hidden_states = 0;    // of the segment that runs and of its repeats
  std::uint64_t compute = 0;          // graphs' intermediate tensors, logits
  // What a turn after the first keeps aside while it is read, so that it can be taken back: rows that may be evicted,
  // orders, the policy's state, logits. No rows of a policy that keeps everything; nothing for a single turn.
  std::uint64_t turn_copy = 0;

  std::uint64_t total() const {
    return program + vocabulary + mapped_weights + second_weights + cache + policy_metadata + layer_workspace +
           hidden_states + compute + turn_copy;
  }
};

// A session's sizes, decided before it exists.
struct SessionPlan {
  std::size_t cache_size = 0;      // the policy's C, entries a layer
  std::size_t chunk = 0;           // tokens of one segment: the prompt (exact) or a chunk (streaming)
  std::uint64_t budget_bytes = 0;  // the arena
  std::uint64_t entry_bytes = 0;   // K and V of one token in one layer, all heads
  // Where the model has sliding-window layers: how many, and the newest entries that each may hold. What they do not
  // need of the budget, the layers with full attention share.
  std::size_t n_sliding_layers = 0;
  std::size_t sliding_entries = 0;
  std::size_t full_layer_entries = 0;  // entries a layer with full attention, on average
  MemoryPlan memory;
};

// What the cache holds and held. Bytes as allocated to entries.
struct CacheUse {
  std::uint64_t budget_bytes = 0;
  std::uint64_t held_bytes = 0;
  std::uint64_t peak_bytes = 0;
  std::uint64_t full_bytes = 0;                // what a cache without eviction would hold now
  std::vector<std::size_t> entries_per_layer;  // of the longest head
};

// What a session can do next.
enum class SessionStatus {
  kReady,    // takes a prompt or a token
  kReading,  // a PrefillJob reads into it: takes nothing until that is finished or dropped
  kFailed,   // a token's step failed midway (memory, or the policy): it can be looked at and closed, nothing else
};

// Tokens that are read behind a prompt and see all of it and each other, but no other probe, and whose keys and values
// nobody keeps. A policy that asked for it is shown their attention: of a probe that repeats a part of the prompt's
// tokens, [first, last), to that part (Observation::repeat_peak); of one that repeats nothing, to all entries
// (Observation::n_probe).
struct Probe {
  std::vector<Token> tokens = {};
  std::size_t first = 0, last = 0;  // counted from the first token that is fed with it; equal: it repeats nothing
};

// How a prompt is read.
struct PrefillOptions {
  // Tokens' worth of work done, of all. Called after every step of a job but the last. False stops it: everything is
  // taken back. So it is if the hook throws, and what it threw comes out of advance().
  std::function<bool(std::size_t done, std::size_t total)> progress = {};
  // If set, called with the logits of every token in order, not only kept for the last.
  std::function<void(std::size_t index, std::span<const float> logits)> all_logits = {};
  // Each is computed as if it alone followed the text. Its tokens do not enter tokens(), and do not change logits().
  // Exact prefill only. Keys and values of one probe at a time are in memory, and the hidden states of all. A policy
  // that judges by a repeat (PolicyTraits::repeat_chunk) and gets none judges by less; its README says by what.
  std::vector<Probe> probes = {};
  // More text will come before the question: policies may see it (Observation::more_follows).
  bool more_follows = false;
};

// A prompt on its way into one session, or into several that watch it together. Nothing happens but in advance(), so a
// job can wait as long as its owner likes, while other sessions step and other jobs advance; the results are the same
// bits however it was cut. It owns the memory that it needs (hidden states, one layer's keys and values, what was
// recorded), and gives it back when it is finished or goes.
//
// A job that goes before it is finished leaves its sessions as they were before it. It lives no longer than its engine.
class PrefillJob {
 public:
  ~PrefillJob();
  PrefillJob(const PrefillJob&) = delete;
  PrefillJob& operator=(const PrefillJob&) = delete;

  // One step: at most one layer of 512 tokens, one layer's decisions, or the logits of 32 tokens. True if there is more
  // to do. False if it is finished, or was stopped by its progress hook: finished() tells.
  // Throws Error if a policy or the machine cannot go on; the sessions are then as they were before the job, and the
  // job is over. Throws Error(kState) if one of its sessions was closed.
  bool advance();
  bool finished() const;  // all was read

  std::size_t n_tokens() const;      // of all passes, probe tokens included
  double n_tokens_done() const;      // tokens' worth of work
  std::uint64_t bytes() const;       // memory held now, with the copies from which sessions can be restored
  std::uint64_t copy_bytes() const;  // these copies alone

  struct State;  // for the library's own use

 private:
  friend class Engine;
  explicit PrefillJob(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class SessionState;
class EngineState;
class Snapshot;
struct SnapshotNote;

// A moment of a session to go back to: made by Session::checkpoint, of use as long as that session lives.
class SessionCheckpoint {
 public:
  ~SessionCheckpoint();
  SessionCheckpoint(const SessionCheckpoint&) = delete;
  SessionCheckpoint& operator=(const SessionCheckpoint&) = delete;

  std::size_t n_tokens() const;  // that the session had been fed
  std::uint64_t bytes() const;   // of memory beside the session's

  struct State;  // for the library's own use
  const State& state() const { return *state_; }

 private:
  friend class Engine;
  friend class Session;
  explicit SessionCheckpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A full copy of a session at one moment, from which new sessions of its engine can be opened: made by Session::stem.
// It must go before the engine does, and stays valid when the session is gone.
class SessionStem {
 public:
  ~SessionStem();
  SessionStem(const SessionStem&) = delete;
  SessionStem& operator=(const SessionStem&) = delete;

  std::size_t n_tokens() const;  // that the session had been fed
  std::uint64_t bytes() const;   // of memory beside the session's

  struct State;  // for the library's own use
  const State& state() const { return *state_; }

 private:
  friend class Session;
  explicit SessionStem(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

// One conversation. Made by Engine::open, and destroyed before its engine.
class Session {
 public:
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  SessionStatus status() const;

  // Feeds a prompt or a new turn: a PrefillJob from beginning to end. False if the progress hook stopped it; the
  // session is then as it was. Throws Error(kCapacity or kInput) if it cannot fit, Error(kState) if the status is not
  // kReady or the session was opened with single_turn and has read its prompt, Error(kInput) for no tokens or ones that
  // are not in the vocabulary.
  bool prefill(std::span<const Token> tokens, const PrefillOptions& options = {});
  // Throws Error(kCapacity or kInput) if `n_new` tokens behind `n_held` can never be fed here: beyond the model's
  // training length, or more than a policy that keeps everything has room for. prefill() may refuse more: what the
  // policy holds while it reads is not looked at.
  void require_room(std::size_t n_held, std::size_t n_new) const;
  // Feeds one token: Engine::step for this session alone.
  void step(Token token);
  // Another budget from here on: the policy drops down to it at once, or may grow into it. Throws Error(kUsage or
  // kCapacity) if the policy cannot work with it or the reserved KV memory has not as much free, Error(kState) if the
  // status is not kReady; nothing has changed then.
  void resize(const Budget& budget);

  // A copy of what it is now: the keys and values of entries that may be evicted, the policy's state, logits. Costs as
  // much memory as is held, little where the policy keeps everything. Throws Error(kCapacity) if there is no memory,
  // Error(kState) if the status is not kReady.
  std::unique_ptr<SessionCheckpoint> checkpoint();
  std::uint64_t checkpoint_bytes() const;  // that one would take now
  // The same session as at that moment, bit for bit. Checkpoints of later moments cannot be gone back to any more, nor
  // can those from before a resize(). Throws Error(kState) for them, for a checkpoint of another session, and if the
  // status is not kReady.
  void go_back(const SessionCheckpoint& checkpoint);

  // A full copy from which new sessions can be opened. It copies every entry, also under a policy that keeps
  // everything. Throws as checkpoint().
  std::unique_ptr<SessionStem> stem() const;

  // Keeps it in a file, from which Engine::open makes the same session again (lacake/snapshot.h), with what else the
  // program wants to find there and checkpoints of it, the earliest first. An old file of the name is replaced, or
  // stays whole where this throws Error(kInput) about the file; the session is not touched. Throws Error(kState) if the
  // status is not kReady or a checkpoint could not be gone back to, Error(kUsage) about a note whose name is none or is
  // there twice.
  void save(const std::string& path, std::span<const SnapshotNote> notes = {},
            std::span<const SessionCheckpoint* const> checkpoints = {}) const;
  // The bytes of that file, for whoever writes them elsewhere or later.
  std::string saved(std::span<const SnapshotNote> notes = {},
                    std::span<const SessionCheckpoint* const> checkpoints = {}) const;
  // How many they are.
  std::uint64_t saved_bytes(std::span<const SnapshotNote> notes = {},
                            std::span<const SessionCheckpoint* const> checkpoints = {}) const;

  std::span<const float> logits() const;     // [n_vocab] of the last token fed; empty before the first
  const std::vector<Token>& tokens() const;  // all that were fed
  // What it was opened with, with the settings derived from a share; `budget` is that of the last resize().
  const SessionOptions& options() const;
  const SessionPlan& plan() const;
  CacheUse use() const;
  // Positions of the tokens that a KV head of a layer keeps, in stored order.
  std::vector<std::int64_t> kept(int layer, int head) const;
  const Policy& policy() const;
  // Tokens that a repeat probe of the next segment, of so many tokens, may repeat: its policy's
  // PolicyTraits::repeat_chunk, or fewer (64 or more) where the model was not trained for text and probe together.
  // 0: the policy needs no repeat.
  std::size_t repeat_chunk(std::size_t n_tokens) const;

  SessionState& state() { return *state_; }  // for the library's own use
  const SessionState& state() const { return *state_; }

 private:
  friend class Engine;
  explicit Session(std::unique_ptr<SessionState> state);
  std::unique_ptr<SessionState> state_;
};

// The KV memory of an engine's sessions, in bytes, now.
struct KvMemoryUse {
  std::uint64_t reserved = 0;  // Options::kv_memory, whole cache lines of it; 0: each session has memory of its own
  std::uint64_t leased = 0;    // by all sessions: their budgets
  std::uint64_t held = 0;      // of that, by entries
  std::uint64_t free = 0;      // of what is reserved, for another session; 0 without a reservation
  std::size_t n_sessions = 0;
};

class Engine {
 public:
  struct Options {
    int threads = 0;  // 0: all cores
    // How queries meet keys and values: "f32"; "int16", a prompt's in 16-bit integers, closer to f32 than f16 entries
    // are; "auto", int16 where this machine is fast at it and entries are rounded anyway; "ggml", composed of ggml's
    // operations, slow: what the others are compared with.
    std::string attention = "auto";
    // KV memory of all sessions together, in bytes: reserved at once, leased to sessions as they are opened and
    // resized, never passed. 0: every session has memory of its own.
    std::uint64_t kv_memory = 0;
  };

  // Borrows the model. Throws Error(kUsage) for options that cannot be, Error(kCapacity) if there is no memory for
  // them.
  Engine(const Model& model, const Options&);
  ~Engine();  // every session and job must be gone
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws Error(kUsage or kCapacity) saying what would fit if these options cannot run.
  SessionPlan plan(const SessionOptions&) const;
  // `options` with the settings that the policy derives from model and budget when a session is opened
  // (PolicyType::settings_at_opening): whether there is a calibration, say. Options settled before come back unchanged.
  // Throws Error(kUsage) for settings that cannot be.
  SessionOptions settled(const SessionOptions&) const;
  // Throws what plan() throws, and Error(kCapacity) if the reserved KV memory has not as much free.
  std::unique_ptr<Session> open(const SessionOptions&);
  // The same as a session of this engine: its entries, tokens and policy, and from here on a life of its own. Throws
  // Error(kState) if it is not ready or not of this engine, and what open() throws.
  std::unique_ptr<Session> fork(const Session& session);
  // What a session was when the stem was made, with a life of its own. Throws Error(kState) for another engine's stem,
  // and what open() throws.
  std::unique_ptr<Session> open(const SessionStem&);
  // The session that was saved, where it was. Throws Error(kInput) about the file where it is of another model or
  // cannot be what a session was, and what plan() and open() throw.
  std::unique_ptr<Session> open(const Snapshot&);
  // The same, with some of the checkpoints that were saved with it: by their places in SnapshotFacts::checkpoints,
  // ascending. Throws as open().
  struct OpenedSession {
    std::unique_ptr<Session> session;
    std::vector<std::unique_ptr<SessionCheckpoint>> checkpoints;
  };
  OpenedSession open(const Snapshot&, std::span<const std::size_t> checkpoints);

  // One token for each of several sessions in one graph: bit for bit what `step` gives each alone. Throws before
  // anything changes: Error(kState) for a session of another engine, one that is there twice, is closed or is not
  // ready; Error(kInput) for a token that is not in the vocabulary or a position beyond the model's training length;
  // Error(kCapacity) if a cache is full and its policy drops nothing. What fails later leaves the sessions of the batch
  // kFailed.
  struct Next {
    Session* session;
    Token token;
  };
  void step(std::span<const Next> batch);

  // Begins to read a prompt into sessions that watch it together, each with its own policy and cache: the same result
  // as for each alone, for little more than the cost of one. Throws as Session::prefill, before anything changes. Also
  // throws Error(kState) if the list is empty, if step() would refuse one of the sessions, or if there are several and
  // one of them already holds tokens; and Error(kUsage) if there are several and one of them streams its prompts.
  std::unique_ptr<PrefillJob> start_prefill(std::span<Session* const> sessions, std::span<const Token> tokens,
                                            PrefillOptions options = {});
  // The same from beginning to end. False if the progress hook stopped it.
  bool prefill(std::span<Session* const> sessions, std::span<const Token> tokens, const PrefillOptions& options = {});

  KvMemoryUse kv_memory() const;
  int threads() const;

  EngineState& state() { return *state_; }  // for the library's own use

 private:
  std::unique_ptr<Session> make(const SessionOptions&);  // as these options say, whatever their share

  std::unique_ptr<EngineState> state_;
};

}  // namespace lacake
