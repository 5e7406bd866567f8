#include "lacake/sizing.h"

#include <fmt/format.h>

#include <algorithm>

#include "lacake/error.h"

namespace lacake {
namespace {

// Halves a length until a session that keeps everything fits. Other policies need no room for what is to come.
SessionOptions fitted(const Engine& engine, SessionOptions session, std::size_t SessionOptions::*length) {
  constexpr std::size_t kShortest = 64;
  while (!session.policy.type->bounded) {
    try {
      (void)engine.plan(session);
      break;
    } catch (const Error& error) {
      if (error.kind() != Error::Kind::kCapacity || session.*length < 2 * kShortest) throw;
      session.*length /= 2;
    }
  }
  return session;
}

std::size_t left(std::size_t most, std::size_t used) { return most > used ? most - used : 0; }

}  // namespace

AnswerRoom answer_room(const ModelFacts& facts, const Session& session, const LengthLimits& limits) {
  const std::size_t used = session.tokens().size();
  const auto trained = (std::size_t)facts.training_length;
  const PolicySpec& policy = session.options().policy;
  const bool evicts = policy.type->bounded;
  const bool run_out = !evicts || policy.positions(facts.policy_attention()) == Positions::kOriginal;

  AnswerRoom room{limits.answer.value_or(LengthLimits::kEndless), LengthLimit::kAnswer};
  const auto at_most = [&](std::size_t tokens, LengthLimit limit) {
    if (tokens < room.tokens) room = {tokens, limit};
  };
  if (limits.conversation) at_most(left(*limits.conversation, used), LengthLimit::kConversation);
  if (run_out) {
    at_most(left(trained, used), LengthLimit::kModel);
  } else if (!limits.answer && !limits.conversation) {
    at_most(trained, LengthLimit::kModel);
  }
  if (!evicts) at_most(left(session.plan().cache_size, used), LengthLimit::kCache);
  return room;
}

SessionOptions sized_for_answer(const Engine& engine, const ModelFacts& facts, SessionOptions session,
                                std::size_t prompt_tokens, const LengthLimits& limits) {
  require_room(0, prompt_tokens, limits);
  // Only for policies that keep everything does the room count, and those end where training did.
  const std::size_t trained = left((std::size_t)facts.training_length, prompt_tokens);
  const std::size_t conversation =
      limits.conversation ? left(*limits.conversation, prompt_tokens) : LengthLimits::kEndless;
  const std::size_t answer = limits.answer.value_or(LengthLimits::kEndless);
  session.single_turn = true;
  session.prompt_tokens = prompt_tokens;
  session.new_tokens = std::min({answer, conversation, trained});
  return answer == LengthLimits::kEndless ? fitted(engine, session, &SessionOptions::new_tokens) : session;
}

SessionOptions sized_for_conversation(const Engine& engine, const ModelFacts& facts, SessionOptions session,
                                      const LengthLimits& limits) {
  session.prompt_tokens = limits.conversation.value_or((std::size_t)facts.training_length);
  session.new_tokens = 0;
  return limits.conversation ? session : fitted(engine, session, &SessionOptions::prompt_tokens);
}

void require_room(std::size_t n_held, std::size_t n_new, const LengthLimits& limits) {
  if (!limits.conversation || n_held + n_new <= *limits.conversation) return;
  throw Error({.kind = Error::Kind::kCapacity,
               .subject = "ctx_size",
               .expected = fmt::format("a conversation of at most {} tokens", *limits.conversation),
               .found = n_held > 0 ? fmt::format("{} tokens and {} more to read", n_held, n_new)
                                   : fmt::format("a prompt of {}", n_new)});
}

}  // namespace lacake
