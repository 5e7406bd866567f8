#include "lacake/sampler.h"

#include <llama.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <exception>
#include <limits>
#include <utility>
#include <vector>

#include "lacake/error.h"
#include "text/grammar.h"
#include "text/make_sampler.h"
#include "text/reasoning_budget.h"
#include "text/sampler_chain.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

[[noreturn]] void fail(const char* subject, std::string expected, std::string found) {
  throw Error(
      {.kind = Error::Kind::kInput, .subject = subject, .expected = std::move(expected), .found = std::move(found)});
}

}  // namespace

struct Sampler::State {
  const Vocabulary* vocabulary;
  SamplerOptions options;  // as given; the seed in use is `seed`
  std::uint32_t seed = 0;
  OwnedSampler chain;
  OwnedSampler grammar;    // null: everything goes
  OwnedSampler reasoning;  // null: nobody asks where reasoning is
  std::vector<llama_token_data> candidates;

  State(const Vocabulary& of, const SamplerOptions& given) : vocabulary(&of), options(given) { begin(); }

  State(const State& from)
      : vocabulary(from.vocabulary),
        options(from.options),
        seed(from.seed),
        chain(llama_sampler_clone(from.chain.get())) {
    if (from.grammar) grammar.reset(llama_sampler_clone(from.grammar.get()));
    if (from.reasoning) reasoning.reset(llama_sampler_clone(from.reasoning.get()));
  }
  State& operator=(const State&) = delete;

  void begin() {
    check_ranges(options);
    SamplerOptions seeded = options;
    seeded.seed = seed = answer_seeds(options.seed, 1).front();
    chain = make_chain(*vocabulary, seeded);
    grammar = make_grammar(*vocabulary, options);
    reasoning = make_reasoning_budget(*vocabulary, options);
  }

  // A lazy grammar waits until reasoning is closed.
  bool grammar_holds() const { return grammar && !(options.grammar_lazy && in_reasoning(reasoning.get())); }

  bool allows(Token token) const {
    if (!grammar_holds()) return true;
    llama_token_data one = {token, 0.0F, 0.0F};
    llama_token_data_array array = {&one, 1, -1, false};
    llama_sampler_apply(grammar.get(), &array);
    return one.logit != kForbidden;
  }

  Token draw(std::span<const float> logits, bool grammar_first) {
    candidates.resize(logits.size());
    bool numbers = true;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      numbers = numbers && logits[i] <= std::numeric_limits<float>::max();
      candidates[i] = {(llama_token)i, logits[i], 0.0F};
    }
    if (!numbers) fail("logits", "numbers", "NaN or infinity");
    llama_token_data_array array = {candidates.data(), candidates.size(), -1, false};
    if (reasoning) llama_sampler_apply(reasoning.get(), &array);
    if (grammar_first) {
      llama_sampler_apply(grammar.get(), &array);
      const auto allowed = [](const llama_token_data& candidate) { return candidate.logit != kForbidden; };
      if (std::none_of(candidates.begin(), candidates.end(), allowed)) {
        fail("grammar", "an answer that can go on or end", "no token that it allows");
      }
    }
    llama_sampler_apply(chain.get(), &array);
    assert(array.selected >= 0);
    return array.data[array.selected].id;
  }

  void accept(Token token) {
    const bool held = grammar_holds();
    // Asked first because libllama ends the process when an end token comes where the grammar has none.
    if (!allows(token)) fail("grammar", "a token that it allows here", std::to_string(token));
    try {
      if (reasoning) {
        llama_sampler_accept(reasoning.get(), token);
        // The mark that closes reasoning may be what the grammar waits for.
        if (grammar && !held) {
          for (const Token closing : reasoning_closed_by(reasoning.get())) {
            llama_sampler_accept(grammar.get(), closing);
          }
        }
      }
      if (held) llama_sampler_accept(grammar.get(), token);
    } catch (const std::exception& e) {
      fail("grammar", "text that it allows behind its trigger", e.what());
    }
    llama_sampler_accept(chain.get(), token);
  }
};

Sampler make_sampler(const Vocabulary& vocabulary, const SamplerOptions& options) {
  return Sampler(std::make_unique<Sampler::State>(vocabulary, options));
}

Sampler::Sampler(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

Sampler Sampler::clone() const { return Sampler(std::make_unique<State>(*state_)); }

void Sampler::observe(std::span<const Token> prompt) {
  const auto looked_at = (std::size_t)std::max(state_->options.repeat_last_n, state_->options.dry_penalty_last_n);
  for (const Token token : prompt.last(std::min(prompt.size(), looked_at))) {
    llama_sampler_accept(state_->chain.get(), token);
  }
}

Token Sampler::sample(std::span<const float> logits) {
  const auto n_tokens = (std::size_t)state_->vocabulary->n_tokens();
  assert(logits.size() >= n_tokens);
  logits = logits.first(n_tokens);
  // As llama.cpp does: the grammar is asked about one drawn token, and about all of the vocabulary only where that one
  // is forbidden. The likeliest allowed token is the same either way.
  Token token = state_->draw(logits, false);
  if (!state_->allows(token)) token = state_->draw(logits, true);
  state_->accept(token);
  return token;
}

void Sampler::accept(Token token) { state_->accept(token); }

void Sampler::reset() { state_->begin(); }

std::uint32_t Sampler::seed() const { return state_->seed; }

}  // namespace lacake
