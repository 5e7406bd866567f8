#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "lacake/chat.h"
#include "text/answer_format.h"
#include "text/chat_template.h"
#include "text/prompt_tokenizer.h"

namespace lacake {

class Vocabulary;

// A model's chat: its template, its special tokens and how its answers are read. Any number of threads may use one at
// once.
class ChatPrompts {
 public:
  // Borrows the vocabulary, which must outlive this.
  ChatPrompts(const Vocabulary& vocabulary, ChatTemplate chat_template);

  const ChatTemplate& chat_template() const { return template_; }
  const PromptTokenizer& tokenizer() const { return tokenizer_; }

  // As Model::chat. REQUIRES: !chat_template().empty().
  //
  // A conversation of roles and contents alone is rendered as Hugging Face's transformers does; one with tools, calls,
  // reasoning, parts, or a last message to be continued as llama.cpp does, which knows how to put them into templates.
  ChatPrompt prompt(std::span<const Message> messages, const ChatOptions& options) const;
  // The same without its tokens, which cost most of the time.
  ChatPrompt rendered(std::span<const Message> messages, const ChatOptions& options) const;

 private:
  const LlamaChat* llama_chat() const;
  AnswerFormat format_of(const PromptText& text, std::span<const Message> messages, const ChatOptions& options) const;
  void check_thinking(std::span<const Message> messages, const ChatOptions& options) const;

  const Vocabulary& vocabulary_;
  ChatTemplate template_;
  PromptTokenizer tokenizer_;
  mutable std::once_flag asked_;
  mutable std::unique_ptr<const LlamaChat> llama_chat_;
};

}  // namespace lacake
