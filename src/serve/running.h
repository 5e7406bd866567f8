#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "lacake/conversation.h"
#include "lacake/scheduler.h"

namespace lacake {

// What a client is told of the cache, but for the conversation's id.
ServedCache cache_of(const Session& session, std::size_t n_prompt, std::size_t n_held);

// A request that was admitted, in bounded steps. One that goes before end() leaves no trace.
class Running {
 public:
  virtual ~Running() = default;
  // A step of reading. True if there is more.
  virtual bool read() = 0;
  virtual bool reading() const = 0;
  virtual std::string_view reading_opening() const { return {}; }  // as Reply has it
  virtual std::size_t n_to_feed() const = 0;
  virtual std::size_t n_to_read() const = 0;
  virtual double n_read() const = 0;
  // REQUIRES: !reading().
  virtual std::span<const Writing> writing() const = 0;
  virtual const Session& session() const = 0;
  // What the client gets, without queue_ms. REQUIRES: !reading().
  virtual Served end() = 0;
};

// Throws what Conversation::begin throws.
std::unique_ptr<Running> run_chat(Conversation& conversation, const ChatRequest& request, const Asking& asking);
// `session`: as Engine::open takes it, for one turn. Throws what Engine::open and start_prefill throw.
std::unique_ptr<Running> run_text(const Model& model, Engine& engine, const SessionOptions& session,
                                  const TextRequest& request, const Asking& asking);

}  // namespace lacake
