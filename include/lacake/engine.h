#pragma once

// An Engine computes with one Model on one machine; a Session is one conversation: its tokens, KV cache and policy.
//
//     lacake::Model model("model.gguf");
//     lacake::Engine engine(model, {});
//     auto session = engine.open({.policy = lacake::PolicySpec::parse("lacache"),
//                                 .budget = lacake::Budget::parse("512"), .prompt_tokens = prompt.size()});
//     session->prefill(prompt);
//     while (!model.is_end(token = sampler.sample(session->logits()))) session->step(token);

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
//   kExact      the whole prompt sees itself, layer by layer; then each layer is compacted. Peak: budget + one layer.
//   kStreaming  chunk by chunk over a compacted cache. Memory constant, time linear in the prompt.
enum class PrefillMode { kExact, kStreaming };

// What K and V are stored as: one of the names below, f16 by default, each on its own ("q8_0,f16"). Types in blocks
// (q8_0, q4_0) need a head size that is a multiple of 32.
struct CacheTypes {
  static constexpr std::array<std::string_view, 5> kNames = {"f32", "f16", "bf16", "q8_0", "q4_0"};
  std::string k = "f16";
  std::string v = "f16";

  static CacheTypes parse(std::string_view text, std::string_view flag = "--kv-type");  // throws Error(kUsage)
  std::string text() const;
};

struct SessionOptions {
  PolicySpec policy = PolicySpec::parse("full");
  Budget budget = {};  // none: policy `full` takes what the conversation needs; others need one, or cache_size=
  CacheTypes types = {};
  PrefillMode prefill = PrefillMode::kExact;
  std::size_t chunk = 0;          // tokens a streaming chunk; 0: an eighth of the budget, at least 32
  std::size_t prompt_tokens = 0;  // what will be fed: a share refers to it, `full` is sized by it
  std::size_t new_tokens = 0;     // what may come after it
};

// Bytes by purpose, before anything runs. `cache` and `layer_workspace` are exact; the rest are what the parts say.
struct MemoryPlan {
  std::uint64_t program = 0;          // resident before the model was opened
  std::uint64_t vocabulary = 0;       // and the other metadata, as measured when the model was opened
  std::uint64_t mapped_weights = 0;   // pages of the file
  std::uint64_t second_weights = 0;   // repacked copies
  std::uint64_t cache = 0;            // the arena: K and V, the budget
  std::uint64_t policy_metadata = 0;  // scores, orders of entries
  std::uint64_t layer_workspace = 0;  // K and V of one layer's segment, recorded probabilities
  std::uint64_t hidden_states = 0;    // of the segment that runs
  std::uint64_t compute = 0;          // graphs' intermediate tensors, logits

  std::uint64_t total() const {
    return program + vocabulary + mapped_weights + second_weights + cache + policy_metadata + layer_workspace +
           hidden_states + compute;
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

struct PrefillHooks {
  // Tokens' worth of work done, of all. Called about twice a second at least. False stops the prefill.
  std::function<bool(std::size_t done, std::size_t total)> progress = {};
  // If set, called with the logits of every token of the segment in order, not only kept for the last.
  std::function<void(std::size_t index, std::span<const float> logits)> all_logits = {};
};

class Session {
 public:
  virtual ~Session() = default;

  // Feeds a prompt or a new turn. False if a hook stopped it: the session then can only be destroyed.
  // Throws Error(kCapacity or kInput) before anything runs if it cannot fit; LaCache with overlapping steps may find a
  // ladder that reaches past a later turn or chunk (kInput), and if use() is another then, the same holds.
  // REQUIRES: tokens not empty, all in the vocabulary.
  virtual bool prefill(std::span<const Token> tokens, const PrefillHooks& hooks = {}) = 0;
  // Feeds one token. Throws Error(kCapacity) if the cache is full and the policy drops nothing.
  virtual void step(Token token) = 0;

  virtual std::span<const float> logits() const = 0;     // [n_vocab] of the last token fed
  virtual const std::vector<Token>& tokens() const = 0;  // all that were fed
  virtual const SessionPlan& plan() const = 0;
  virtual CacheUse use() const = 0;
  // Positions of the tokens that a KV head of a layer keeps, in stored order.
  virtual std::vector<std::int64_t> kept(int layer, int head) const = 0;
  virtual const Policy& policy() const = 0;
};

class Engine {
 public:
  struct Options {
    int threads = 0;  // 0: all cores
    // How queries meet keys and values: "f32"; "int16", a prompt's in 16-bit integers, closer to f32 than f16 entries
    // are; "auto", int16 where this machine is fast at it and entries are rounded anyway; "ggml", composed of ggml's
    // operations, slow: what the others are compared with.
    std::string attention = "auto";
  };

  // Borrows the model.
  Engine(const Model& model, const Options&);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws Error(kUsage or kCapacity) saying what would fit if these options cannot run.
  SessionPlan plan(const SessionOptions&) const;
  // Sessions live no longer than their engine.
  std::unique_ptr<Session> open(const SessionOptions&);

  // One token for each of several sessions in one graph: bit for bit what `step` gives each alone.
  struct Next {
    Session* session;
    Token token;
  };
  void step(std::span<const Next> batch);

  // One exact pass over a prompt that several sessions watch, each with its own policy and cache: the same result as
  // prefill() for each, for little more than the cost of one. REQUIRES: nothing was fed to any of them.
  bool prefill(std::span<Session* const> sessions, std::span<const Token> tokens, const PrefillHooks& hooks = {});

  int threads() const;

  struct Parts;  // for the library's own use
  Parts& parts() { return *parts_; }

 private:
  std::unique_ptr<Parts> parts_;
};

}  // namespace lacake
