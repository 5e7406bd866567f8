#include "sizing.h"

#include <algorithm>

#include "lacake/error.h"
#include "lacake/policy_author.h"

namespace lacake::cli {
namespace {

std::size_t conversation_length(const Model& model, const Options& options) {
  return static_cast<std::size_t>(options.ctx_size.value_or(model.facts().training_length));
}

// Halves a length until a session that keeps everything fits; others need no room for it.
SessionOptions fitted(const Engine& engine, SessionOptions session, std::size_t SessionOptions::*length) {
  constexpr std::size_t kShortest = 64;
  while (!session.policy.type->bounded) {
    try {
      (void)engine.plan(session);
      break;
    } catch (const Error&) {
      if (session.*length < 2 * kShortest) throw;
      session.*length /= 2;
    }
  }
  return session;
}

// Where a budget is given and no policy: the one of our own, which docs/results.md shows to lose least. Without a
// budget nothing has to go.
constexpr const char* kPolicyOfABudget = "trellis";

bool answer_length_given(const Options& options) { return options.predict && *options.predict >= 0; }

}  // namespace

SessionOptions session_options(const Options& options, std::size_t prompt_tokens, std::size_t new_tokens) {
  SessionOptions session;
  session.policy = PolicySpec::parse(options.policy.value_or(options.kv_budget ? kPolicyOfABudget : "full"));
  if (options.kv_budget) session.budget = Budget::parse(*options.kv_budget);
  if (options.kv_type) session.types = CacheTypes::parse(*options.kv_type);
  session.prefill = options.prefill == "exact" ? PrefillMode::kExact : PrefillMode::kStreaming;
  session.chunk = static_cast<std::size_t>(options.chunk.value_or(0));
  session.prompt_tokens = prompt_tokens;
  session.new_tokens = new_tokens;
  return session;
}

std::vector<eval::Configuration> grid_of(const Options& options) {
  std::vector<std::string> policies = list_items(options.policies, true);
  const std::vector<std::string> budgets = list_items(options.kv_budgets, false);
  if (policies.empty()) policies = {"full"};
  if (options.policies.empty() && !budgets.empty()) policies.emplace_back(kPolicyOfABudget);
  return eval::make_grid(policies, budgets);
}

SessionOptions sized_session(const Engine& engine, const Model& model, const Options& options,
                             std::size_t prompt_tokens) {
  const std::size_t length = conversation_length(model, options);
  if (answer_length_given(options)) {
    return session_options(options, prompt_tokens, static_cast<std::size_t>(*options.predict));
  }
  const std::size_t room = length > prompt_tokens ? length - prompt_tokens : 0;
  return fitted(engine, session_options(options, prompt_tokens, room), &SessionOptions::new_tokens);
}

SessionOptions sized_chat(const Engine& engine, const Model& model, const Options& options) {
  const SessionOptions session = session_options(options, conversation_length(model, options), 0);
  return options.ctx_size ? session : fitted(engine, session, &SessionOptions::prompt_tokens);
}

std::size_t longest_answer(const Options& options, const Session& session, const SessionOptions& sized) {
  const bool endless = sized.policy.type->bounded && session.policy().traits().positions == Positions::kCacheIndex;
  const std::size_t wanted = answer_length_given(options) ? static_cast<std::size_t>(*options.predict) : SIZE_MAX;
  const std::size_t length = sized.prompt_tokens + sized.new_tokens;
  const std::size_t used = session.tokens().size();
  if (endless) return options.predict ? wanted : length;
  return std::min(wanted, length > used ? length - used : 0);
}

}  // namespace lacake::cli
