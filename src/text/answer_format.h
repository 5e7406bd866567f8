#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lacake/chat.h"
#include "lacake/sampler.h"
#include "text/chat_template.h"

namespace lacake {

class Vocabulary;

// What AnswerFormat needs of a template. Content alone: all of it empty.
struct AnswerFormat::State {
  virtual ~State() = default;

  // Throws std::exception where the text does not follow the format.
  virtual ParsedAnswer parse(const std::string& text, bool partial) const;

  std::string grammar;
  bool grammar_lazy = false;
  std::vector<GrammarTrigger> triggers;
  std::string begun;  // what the prompt already holds of the answer
  std::vector<Token> reasoning_open;
  std::vector<std::vector<Token>> reasoning_close;
  std::vector<std::string> stops;
  std::vector<Token> shown_tokens;
  bool has_reasoning = false;
  bool has_tool_calls = false;
};

// llama.cpp's own view of a template: how it writes calls of tools and reasoning, found by rendering small
// conversations and comparing, or known for the families that need it. Any number of threads may use one at once.
class LlamaChat {
 public:
  static bool in_this_build();

  // Null where this build has none, or for a template that has no source.
  static std::unique_ptr<const LlamaChat> of(const ChatTemplate& chat_template);

  struct Result {
    PromptText text;
    std::string begun;  // what of it opens the answer
    std::shared_ptr<const AnswerFormat::State> state;
  };

  // Throws as Model::chat.
  virtual Result apply(std::span<const Message> messages, const ChatOptions& options,
                       const Vocabulary& vocabulary) const = 0;

  // What the template can say.
  virtual bool knows_tools() const = 0;

  virtual ~LlamaChat() = default;
};

}  // namespace lacake
