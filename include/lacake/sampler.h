#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace lacake {

class Model;
class Vocabulary;

// How the next token is drawn. Names, meanings and defaults are llama.cpp's.
struct SamplerOptions {
  static constexpr std::uint32_t kRandomSeed = 0xFFFFFFFF;

  float temp = 0.8F;                 // 0 or less: always the likeliest token
  std::int32_t top_k = 40;           // only the k likeliest; 0 or less: all
  float top_p = 0.95F;               // only the likeliest that together reach p; 1: all
  float min_p = 0.05F;               // only those at least p times as likely as the likeliest; 0: all
  float repeat_penalty = 1.0F;       // above 1: tokens among the last ones become less likely
  std::int32_t repeat_last_n = 64;   // how many last tokens that looks at; 0: none
  std::uint32_t seed = kRandomSeed;  // same seed and logits: same tokens
  std::string grammar;               // GBNF with a rule `root` that the answer must follow; "": none
};

// Draws tokens from logits: grammar, penalties, top-k, top-p, min-p, temperature, draw. Holds what one answer has
// drawn so far, so each session has its own. Works on a buffer of 12 bytes a vocabulary entry, kept between calls.
class Sampler {
 public:
  // Borrows the vocabulary, which must outlive this. Throws Error(kUsage) naming the option that can't be used.
  // libllama itself writes to standard error where a grammar has a syntax error.
  Sampler(const Vocabulary& vocabulary, const SamplerOptions& options);
  Sampler(const Model& model, const SamplerOptions& options);  // its vocabulary
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // Tokens that came before the answer: the repeat penalty counts them, the grammar does not.
  void observe(std::span<const std::int32_t> prompt);

  // Draws a token and accepts it.
  //   logits  [vocabulary size]  f32; more, from a model whose output is padded, are not looked at
  // Throws Error(kInput) if the grammar allows no token of the vocabulary. REQUIRES: logits are no NaN.
  std::int32_t sample(std::span<const float> logits);

  // Takes a token as if it had been drawn. Throws Error(kInput) if the grammar does not allow it here.
  void accept(std::int32_t token);

  // As new: nothing seen, the same seed again (another one if it is random).
  void reset();

  // The seed in use, also where it was random. Meaningless if temp <= 0.
  std::uint32_t seed() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lacake
