#include "lacake/sampler.h"

#include <llama.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <sstream>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lacake/error.h"
#include "text/llama_log.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

struct FreeSampler {
  void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using OwnedSampler = std::unique_ptr<llama_sampler, FreeSampler>;

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

void require(bool holds, std::string_view flag, std::string_view expected, float found) {
  if (holds) return;
  std::ostringstream message;
  message << flag << ": expected " << expected << ", found " << found;
  throw Error(Error::Kind::kUsage, message.str());
}

void check(const SamplerOptions& options) {
  require(std::isfinite(options.temp), "--temp", "a finite number", options.temp);
  require(options.top_p >= 0 && options.top_p <= 1, "--top-p", "0 to 1", options.top_p);
  require(options.min_p >= 0 && options.min_p <= 1, "--min-p", "0 to 1", options.min_p);
  require(std::isnormal(options.repeat_penalty) && options.repeat_penalty > 0, "--repeat-penalty", "a number above 0",
          options.repeat_penalty);
  require(options.repeat_last_n >= 0, "--repeat-last-n", "0 or more", static_cast<float>(options.repeat_last_n));
}

// libllama of 2026 asks for the size of the vocabulary, earlier ones don't.
template <typename Make>
llama_sampler* make_penalties(Make make, const Vocabulary& vocabulary, const SamplerOptions& options) {
  if constexpr (std::is_invocable_v<Make, std::int32_t, std::int32_t, float, float, float>) {
    return make(vocabulary.n_tokens(), options.repeat_last_n, options.repeat_penalty, 0.0F, 0.0F);
  } else {
    return make(options.repeat_last_n, options.repeat_penalty, 0.0F, 0.0F);
  }
}

OwnedSampler make_chain(const Vocabulary& vocabulary, const SamplerOptions& options) {
  llama_sampler_chain_params params = llama_sampler_chain_default_params();
  params.no_perf = true;
  OwnedSampler chain(llama_sampler_chain_init(params));
  const auto add = [&](llama_sampler* link) { llama_sampler_chain_add(chain.get(), link); };
  add(make_penalties(&llama_sampler_init_penalties, vocabulary, options));
  if (options.temp <= 0) {
    add(llama_sampler_init_greedy());
    return chain;
  }
  constexpr std::size_t kMinKeep = 0;
  add(llama_sampler_init_top_k(options.top_k));
  add(llama_sampler_init_top_p(options.top_p, kMinKeep));
  add(llama_sampler_init_min_p(options.min_p, kMinKeep));
  add(llama_sampler_init_temp(options.temp));
  add(llama_sampler_init_dist(options.seed));
  return chain;
}

OwnedSampler make_grammar(const Vocabulary& vocabulary, const std::string& grammar) {
  if (grammar.empty()) return nullptr;
  const LlamaErrors errors;
  OwnedSampler made(llama_sampler_init_grammar(vocabulary.handle(), grammar.c_str(), "root"));
  if (!made) {
    const std::string cause = errors.first();
    throw Error(Error::Kind::kUsage,
                "grammar: expected GBNF with a rule `root`" + (cause.empty() ? "" : ", found: " + cause));
  }
  return made;
}

}  // namespace

struct Sampler::State {
  const Vocabulary& vocabulary;
  std::int32_t repeat_last_n;
  OwnedSampler chain;
  OwnedSampler grammar;  // null: everything goes
  std::vector<llama_token_data> candidates;

  bool allows(std::int32_t token) const {
    if (!grammar) return true;
    llama_token_data one = {token, 0.0F, 0.0F};
    llama_token_data_array array = {&one, 1, -1, false};
    llama_sampler_apply(grammar.get(), &array);
    return one.logit != kForbidden;
  }

  std::int32_t draw(std::span<const float> logits, bool grammar_first) {
    candidates.resize(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) candidates[i] = {static_cast<llama_token>(i), logits[i], 0.0F};
    llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
    if (grammar_first) {
      llama_sampler_apply(grammar.get(), &array);
      const auto allowed = [](const llama_token_data& candidate) { return candidate.logit != kForbidden; };
      if (std::none_of(candidates.begin(), candidates.end(), allowed)) {
        throw Error(Error::Kind::kInput,
                    "grammar: expected an answer that can go on or end, found no token that it allows");
      }
    }
    llama_sampler_apply(chain.get(), &array);
    assert(array.selected >= 0);
    return array.data[array.selected].id;
  }
};

Sampler::Sampler(const Vocabulary& vocabulary, const SamplerOptions& options) {
  check(options);
  state_ = std::make_unique<State>(State{vocabulary,
                                         options.repeat_last_n,
                                         make_chain(vocabulary, options),
                                         make_grammar(vocabulary, options.grammar),
                                         {}});
}

Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

void Sampler::observe(std::span<const std::int32_t> prompt) {
  const std::size_t seen = std::min(prompt.size(), static_cast<std::size_t>(state_->repeat_last_n));
  for (const std::int32_t token : prompt.last(seen)) llama_sampler_accept(state_->chain.get(), token);
}

std::int32_t Sampler::sample(std::span<const float> logits) {
  const auto n_tokens = static_cast<std::size_t>(state_->vocabulary.n_tokens());
  assert(logits.size() >= n_tokens);
  logits = logits.first(n_tokens);
  // As llama.cpp does: the grammar is asked about one drawn token, and about all of the vocabulary only where that one
  // is forbidden. The likeliest allowed token is the same either way.
  std::int32_t token = state_->draw(logits, false);
  if (!state_->allows(token)) token = state_->draw(logits, true);
  accept(token);
  return token;
}

void Sampler::accept(std::int32_t token) {
  // Asked first because libllama ends the process when an end token comes where the grammar has none.
  if (!state_->allows(token)) {
    throw Error(Error::Kind::kInput, "grammar: token " + std::to_string(token) + " is not allowed here");
  }
  if (state_->grammar) llama_sampler_accept(state_->grammar.get(), token);
  llama_sampler_accept(state_->chain.get(), token);
}

void Sampler::reset() {
  llama_sampler_reset(state_->chain.get());
  if (state_->grammar) llama_sampler_reset(state_->grammar.get());
}

std::uint32_t Sampler::seed() const { return llama_sampler_get_seed(state_->chain.get()); }

}  // namespace lacake
