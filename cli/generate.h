#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/engine.h"
#include "lacake/sampler.h"
#include "terminal.h"

namespace lacake::cli {

// How to show that something goes on.
struct Progress {
  const Terminal& terminal;
  bool quiet;
};

// Feeds a prompt to sessions that watch it together, with a progress bar. False if Ctrl-C stopped it; throws
// OutputClosed if nobody reads the answer any more. REQUIRES: as Engine::prefill for more than one session.
bool feed(Engine& engine, std::span<Session* const> sessions, std::span<const Token> tokens, const Progress& progress,
          std::string label = "prompt");

struct AnswerOptions {
  std::size_t most = SIZE_MAX;  // new tokens
  bool ignore_eos = false;
  std::function<void(std::string_view)> on_text = {};  // whole UTF-8 characters, as they come
};

struct Answer {
  std::string text;
  std::vector<Token> ids;           // without the token that ended it
  std::string stopped;              // "end", "length" or "interrupt"
  std::uint64_t logits_hash = 0;    // 64-bit XXH3 of the f32 logits that chose the last token, the ending one included
  double first_token_ms = 0;        // from the start until the first token was chosen
  std::optional<double> decode_ms;  // a token, mean over those after the first
};

// Answers from what the session was last fed. The last token of an answer that stopped for its length is chosen but not
// fed.
Answer generate(const Model& model, Session& session, Sampler& sampler, const AnswerOptions& options);

struct Perplexity {
  std::size_t tokens = 0;
  double value = 0;  // exp of the mean negative log probability
};

// Feeds a given text and measures how likely it was, token by token; the first from the logits that are there. Stops
// early at Ctrl-C. REQUIRES: tokens not empty.
Perplexity score(Session& session, std::span<const Token> tokens, const Progress& progress);

std::uint64_t logits_hash(std::span<const float> logits);

}  // namespace lacake::cli
