#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/token.h"

namespace lacake {

class Model;
class Vocabulary;

// Added to the logit of a token, or of each token that a text consists of. Minus infinity: never.
struct LogitBias {
  std::string text = {};  // "" where `token` is given
  Token token = -1;
  float bias = 0;
};

// Where a lazy grammar begins to hold.
struct GrammarTrigger {
  enum class Kind {
    kWord,          // where this text appears; the grammar begins with it
    kPattern,       // where this regular expression matches; the grammar begins with its first group, or with all of it
    kWholePattern,  // where it matches all of the answer so far
    kToken,         // at this token; the grammar begins with it
  };
  Kind kind = Kind::kWord;
  std::string value = {};
  Token token = -1;
};

// How the next token is drawn. Names, meanings and defaults are llama.cpp's.
struct SamplerOptions {
  static constexpr std::uint32_t kRandomSeed = 0xFFFFFFFF;

  std::uint32_t seed = kRandomSeed;  // same seed and logits: same tokens

  // The order in which samplers work on the candidates, by name (penalties, dry, top_n_sigma, top_k, typ_p, top_p,
  // min_p, xtc, temperature, infill). One that is not there has no effect. parse_samplers and
  // parse_sampler_letters read users' lists. Without effect under mirostat.
  std::vector<std::string> samplers = {"penalties", "dry",   "top_n_sigma", "top_k",      "typ_p",
                                       "top_p",     "min_p", "xtc",         "temperature"};
  std::int32_t min_keep = 0;  // top_p, min_p, typ_p and xtc leave at least so many candidates

  float temp = 0.8F;            // 0 or less: always the likeliest token
  float dynatemp_range = 0.0F;  // the temperature varies so much around temp with the entropy; 0: not
  float dynatemp_exponent = 1.0F;

  std::int32_t top_k = 40;       // only the k likeliest; 0 or less: all
  float top_p = 0.95F;           // only the likeliest that together reach p; 1: all
  float min_p = 0.05F;           // only those at least p times as likely as the likeliest; 0: all
  float typical_p = 1.0F;        // only the most typical that together reach p; 1: all
  float top_n_sigma = -1.0F;     // only logits within n standard deviations of the largest; 0 or less: all
  float xtc_probability = 0.0F;  // how often all but the least likely above the threshold go; 0: never
  float xtc_threshold = 0.1F;    // above 0.5: never

  std::int32_t repeat_last_n = 64;  // how many last tokens the three penalties look at, at most 2^20; 0: none
  float repeat_penalty = 1.0F;      // above 1: tokens among the last ones become less likely
  float presence_penalty = 0.0F;    // taken from the logit of a token among the last ones
  float frequency_penalty = 0.0F;   // taken from it as often as it is there

  float dry_multiplier = 0.0F;           // penalty of a token that would prolong a repetition; 0: none
  float dry_base = 1.75F;                // by which it grows with each token of the repetition
  std::int32_t dry_allowed_length = 2;   // repetitions so long are free
  std::int32_t dry_penalty_last_n = 64;  // how many last tokens are searched, at most 2^20; 0: none
  std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};  // repetitions do not reach over them

  // 1 or 2: holds the surprise of the answer near mirostat_tau instead. Only the temperature and logit biases are used
  // besides.
  std::int32_t mirostat = 0;
  float mirostat_tau = 5.0F;
  float mirostat_eta = 0.1F;  // how fast it learns

  std::vector<LogitBias> logit_bias = {};
  bool ignore_eos = false;  // never a token that ends the answer

  // What the answer must follow: GBNF with a rule `root`, or a JSON schema (one of both). "": nothing.
  std::string grammar = {};
  std::string json_schema = {};
  // A lazy grammar holds only from where a trigger appears. REQUIRES: triggers, where it is lazy.
  bool grammar_lazy = false;
  std::vector<GrammarTrigger> grammar_triggers = {};
  std::string grammar_begun = {};  // what the prompt already holds of the text that the grammar describes

  // Reasoning: the tokens that open it and those that may close it, as AnswerFormat::apply_to knows them. A lazy
  // grammar waits until it is closed.
  std::vector<Token> reasoning_open = {};
  std::vector<std::vector<Token>> reasoning_close = {};
  std::int32_t reasoning_budget = -1;  // reasoning is closed after so many tokens; -1: never
  std::string reasoning_begun = {};    // what the prompt already holds of the answer
};

// The samplers of a list of names with `;` or `,` between ("top_k;temperature"), by llama.cpp's names and their other
// spellings (top-k, nucleus, temp). Throws Error(kUsage) naming `samplers` and the name that is unknown.
std::vector<std::string> parse_samplers(std::string_view names);

// The same of llama.cpp's letters ("edskypmxt"). Throws Error(kUsage) naming `sampling_seq`.
std::vector<std::string> parse_sampler_letters(std::string_view letters);

// TOKEN+BIAS, TOKEN-BIAS, "TEXT"+BIAS or "TEXT"-BIAS; -inf: never. Throws Error(kUsage) naming `logit_bias`.
LogitBias parse_logit_bias(std::string_view text);

// The grammar (GBNF) of the JSON texts that follow a schema.
// Throws Error(kUsage) naming `json_schema`, also in builds without llama.cpp's sources.
std::string json_schema_grammar(const std::string& schema);

// Seeds for `n` answers to one prompt: the first is `seed` itself (or one by chance), the others follow from it, so
// that the same seed gives the same answers. No two are equal.
std::vector<std::uint32_t> answer_seeds(std::uint32_t seed, std::size_t n);

// Draws tokens from logits: grammar, penalties, truncation, temperature, draw. Holds what one answer has drawn so far,
// so each session has its own. Works on a buffer of 12 bytes a vocabulary entry, kept between calls.
// One thread at a time; several samplers of one model may work in several threads.
class Sampler {
 public:
  // Borrows the model, which must outlive this. Throws Error(kUsage) naming the option that can't be used.
  Sampler(const Model& model, const SamplerOptions& options);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // As this one is now: seen and drawn tokens, the grammar's place, the random numbers to come.
  Sampler clone() const;

  // Tokens that came before the answer: penalties count them, the grammar does not.
  void observe(std::span<const Token> prompt);

  // Draws a token and accepts it.
  //   logits  [vocabulary size]  f32; more, from a model whose output is padded, are not looked at
  // Throws Error(kInput) if the grammar allows no token of the vocabulary, or if a logit is NaN.
  Token sample(std::span<const float> logits);

  // Takes a token as if it had been drawn. Throws Error(kInput) if the grammar does not allow it here.
  void accept(Token token);

  // As new: nothing seen, the same seed again (another one if it is random).
  void reset();

  // The seed in use, also where it was random. Meaningless if temp <= 0.
  std::uint32_t seed() const;

 private:
  friend Sampler make_sampler(const Vocabulary& vocabulary, const SamplerOptions& options);
  struct State;
  explicit Sampler(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct TokenProbability {
  Token token = 0;
  double logprob = 0;  // natural logarithm of its probability
};

struct LogProbabilities {
  TokenProbability token;
  std::vector<TokenProbability> best;  // the likeliest first; of two that are equal the smaller id
};

// How likely `token` is among all of the vocabulary, and which are likeliest, by the model's own logits: before any
// sampler.
//   logits  [vocabulary size]  f32; one that is NaN or minus infinity has probability 0
// In double. Where no logit is a number, all probabilities are 0 (logprob minus infinity).
// REQUIRES: 0 <= token < logits.size().
LogProbabilities log_probabilities(std::span<const float> logits, Token token, std::size_t n_best);

}  // namespace lacake
