#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "generation/answers.h"
#include "generation/text_reading.h"
#include "lacake/conversation.h"

namespace lacake {

// An answer of a conversation on its way: what is read for it, then what is written.
struct Reply::State {
  State(Conversation::State& c, std::vector<Message> m, const Asking& asking)
      : conversation(c),
        messages(std::move(m)),
        prompt(c.render(messages, asking.chat)),
        answers(c.model, prompt.format, asking.generation, asking.n_answers),
        reading(c) {}

  void begin(const Asking& asking) {
    reading.begin(
        prompt.text, false, asking.generation.limits,
        [&] { return conversation.opening_size(messages, prompt.text, asking.chat); },
        [&](const Conversation::State::OpeningSize& opening) {
          return conversation.parts_of(messages, prompt.text, asking.chat, opening);
        });
    if (!reading.reading()) begin_writing();
  }

  void begin_writing() {
    n_read = conversation.session->tokens().size();
    answers.begin(conversation.engine, *conversation.session);
  }

  Turn end() {
    Generation& first = *answers.writing()[0].generation;
    if (!first.finished()) first.cancel();
    Turn turn = reading.turn;
    turn.answer = first.answer();
    answers.close_copies();
    if (!turn.answered()) return turn;  // as stopped before
    conversation.remember(prompt, turn.answer, n_read);
    const std::size_t question = messages.size() - 1;
    const ParsedAnswer& parsed = turn.answer.parsed;
    messages.push_back({.role = "assistant",
                        .content = parsed.content,
                        .reasoning = parsed.reasoning,
                        .tool_calls = parsed.tool_calls});
    conversation.take(std::move(messages));
    conversation.ask_ahead(question);
    conversation.own.n_retries = 0;
    reading.keep();
    return turn;
  }

  Conversation::State& conversation;
  std::vector<Message> messages;
  ChatPrompt prompt;
  Answers answers;
  TextReading reading;
  std::size_t n_read = 0;  // tokens that the session had been fed when the answers began
};

}  // namespace lacake
