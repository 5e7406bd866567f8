#include "text/reasoning_budget.h"

#include <limits>

#include "lacake/error.h"
#include "text/grammar.h"
#include "text/vocabulary.h"

#ifdef LACAKE_HAVE_LLAMA_COMMON
#include <reasoning-budget.h>
#endif

namespace lacake {

#ifdef LACAKE_HAVE_LLAMA_COMMON

OwnedSampler make_reasoning_budget(const Vocabulary& vocabulary, const SamplerOptions& options) {
  const bool known = !options.reasoning_open.empty() && !options.reasoning_close.empty();
  if (options.reasoning_budget >= 0 && !known) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "reasoning_budget",
                 .found = "cannot be used: the model's chat template knows no reasoning"});
  }
  const bool needed = options.reasoning_budget >= 0 || options.grammar_lazy;
  if (!needed || !known) return nullptr;
  const std::int32_t budget =
      options.reasoning_budget < 0 ? std::numeric_limits<std::int32_t>::max() : options.reasoning_budget;
  OwnedSampler made(common_reasoning_budget_init(vocabulary.handle(), {options.reasoning_open}, options.reasoning_close,
                                                 options.reasoning_close.front(), budget));
  for (const Token token : tokens_of_template(vocabulary, options.reasoning_begun)) {
    llama_sampler_accept(made.get(), token);
  }
  return made;
}

bool in_reasoning(const llama_sampler* sampler) {
  if (sampler == nullptr) return false;
  const common_reasoning_budget_state state = common_reasoning_budget_get_state(sampler);
  return state != REASONING_BUDGET_IDLE && state != REASONING_BUDGET_DONE;
}

std::vector<Token> reasoning_closed_by(const llama_sampler* sampler) {
  if (sampler == nullptr || common_reasoning_budget_get_state(sampler) != REASONING_BUDGET_DONE) return {};
  const llama_tokens* tokens = common_reasoning_budget_get_end_match(sampler);
  return tokens == nullptr ? std::vector<Token>() : *tokens;
}

#else

OwnedSampler make_reasoning_budget(const Vocabulary&, const SamplerOptions& options) {
  if (options.reasoning_budget >= 0) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "reasoning_budget",
                 .found = "cannot be used: this build was made without llama.cpp's sources"});
  }
  return nullptr;
}

bool in_reasoning(const llama_sampler*) { return false; }

std::vector<Token> reasoning_closed_by(const llama_sampler*) { return {}; }

#endif

}  // namespace lacake
