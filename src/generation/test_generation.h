#pragma once

// What tests of generation share: a tiny model that chats, and answers written by hand.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/test_session.h"
#include "lacake/generation.h"

namespace lacake {

inline constexpr Token kEndOfText = 2;
inline constexpr Token kFirstByte = 3;  // token of byte 0

// Each message between <s> and </s>.
inline constexpr const char* kChatTemplate =
    "{% for m in messages %}<s>{{ m.role }} {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}";

// The same, but answers before the last question are left out, as reasoning is by templates of models that think.
inline constexpr const char* kForgetfulTemplate =
    "{% for m in messages %}{% if m.role != 'assistant' %}<s>{{ m.role }} {{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant {% endif %}";

inline TinyModel chatting(const std::string& chat_template = kChatTemplate) {
  TinyModel tiny = small();
  tiny.edit = [=](gguf_context* g) { gguf_set_val_str(g, "tokenizer.chat_template", chat_template.c_str()); };
  return tiny;
}

// Greedy, of exactly `n` tokens, all of them letters.
inline GenerationOptions greedy(std::size_t n) {
  GenerationOptions options{.limits = {.answer = n}};
  options.sampling.temp = 0;
  options.sampling.ignore_eos = true;
  return options;
}

inline ChatPrompt random_prompt(const Loaded& loaded, std::size_t n, unsigned seed = 5) {
  ChatPrompt prompt;
  prompt.tokens = random_tokens(loaded.tiny, n, seed);
  return prompt;
}

inline Token likeliest(std::span<const float> logits, Token but = -1) {
  Token best = but == 0 ? 1 : 0;
  for (Token t = 0; t < (Token)logits.size(); ++t) {
    if (t != but && logits[(std::size_t)t] > logits[(std::size_t)best]) best = t;
  }
  return best;
}

// What a session answers greedily, without end tokens, by the plainest loop there is.
inline Tokens plain_answer(Loaded& loaded, const SessionOptions& options, const Tokens& prompt, std::size_t n) {
  const auto session = loaded.engine.open(options);
  session->prefill(prompt);
  Tokens tokens;
  for (std::size_t i = 0; i < n; ++i) {
    tokens.push_back(likeliest(session->logits(), kEndOfText));
    session->step(tokens.back());
  }
  return tokens;
}

inline std::string text_of(const Model& model, const Tokens& tokens) {
  std::string text;
  for (const Token token : tokens) text += model.piece(token);
  return text;
}

}  // namespace lacake
