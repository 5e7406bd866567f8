#pragma once

// How long an answer and a conversation may get, and the session that has room for them.
//
// Threads: what takes an Engine as that Engine; everything else from any thread.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "lacake/engine.h"

namespace lacake {

// The most tokens that a user wants.
struct LengthLimits {
  static constexpr std::size_t kEndless = SIZE_MAX;

  // New tokens of one answer (setting `predict`); none: as many as the conversation has room for. kEndless: no end,
  // where positions never run out.
  std::optional<std::size_t> answer = {};
  // Tokens of the conversation, its prompts and answers together, under every policy (setting `ctx_size`); none: what
  // the model and the cache allow.
  std::optional<std::size_t> conversation = {};
};

// What ends an answer that could go on.
//   kAnswer        LengthLimits::answer
//   kConversation  LengthLimits::conversation
//   kModel         the model's training length: of the conversation, or of one answer where positions never run out
//                  and no length was asked for
//   kCache         the policy evicts nothing and the cache is full
enum class LengthLimit { kAnswer, kConversation, kModel, kCache };

struct AnswerRoom {
  std::size_t tokens = 0;
  LengthLimit limit = LengthLimit::kAnswer;
};

// The most new tokens that `session` can make after what it was fed, and what would end them. Positions never run out
// where the policy evicts and places keys by their index in the cache.
AnswerRoom answer_room(const ModelFacts& facts, const Session& session, const LengthLimits& limits);

// `session` with prompt_tokens and new_tokens for one answer to one prompt (SessionOptions::single_turn). A policy that
// keeps everything reserves the room of the whole answer; where that does not fit and no limit names its length, the
// room is halved until it does, and the answer then ends by LengthLimit::kCache. Throws Error(kCapacity) where the
// prompt alone is longer than limits.conversation. Whether the session can run at all, Engine::plan says.
SessionOptions sized_for_answer(const Engine& engine, const ModelFacts& facts, SessionOptions session,
                                std::size_t prompt_tokens, const LengthLimits& limits);

// The same for a conversation of limits.conversation tokens, the model's training length where there is no limit.
SessionOptions sized_for_conversation(const Engine& engine, const ModelFacts& facts, SessionOptions session,
                                      const LengthLimits& limits);

// Throws Error(kCapacity), with the numbers, if `n_new` more tokens after `n_held` exceed limits.conversation.
void require_room(std::size_t n_held, std::size_t n_new, const LengthLimits& limits);

}  // namespace lacake
