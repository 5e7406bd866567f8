#pragma once

#include <span>
#include <string>
#include <vector>

#include "lacake/chat.h"

namespace lacake {

class Vocabulary;

// Turns a conversation into the text that a model was trained on, with the Jinja template of its GGUF file or another.
// Renders as Hugging Face's transformers does (trim_blocks, lstrip_blocks; `tools` and `documents` are none).
// Without a Jinja engine in the build, libllama's list of well-known templates is used instead, and notice() says so.
class ChatTemplate {
 public:
  // Where a template comes from: what errors name.
  enum class Origin { kModel, kOption };

  // No template: empty(). Its owner runs raw text.
  ChatTemplate() = default;

  // An empty source gives an empty template. Whether it is Jinja at all, render() finds out: a model whose template is
  // broken can still run raw text. One that was chosen is looked at here: throws Error(kUsage) naming `chat_template`.
  ChatTemplate(std::string source, std::string bos, std::string eos, Origin origin = Origin::kModel);

  // `chosen`: instead of the file's, a template or the name of one that libllama knows. "": the file's.
  static ChatTemplate of(const Vocabulary& vocabulary, const std::string& chosen = "");

  // Whether this build runs templates, or only recognises well-known ones.
  static bool has_jinja();

  bool empty() const { return source_.empty(); }
  bool is_name() const { return by_name_; }  // of a template that libllama knows and that has no source
  const std::string& source() const { return source_; }
  const std::string& bos() const { return bos_; }
  const std::string& eos() const { return eos_; }

  // One line for the user where the text may differ from what the template says, or where there is no template.
  // "" otherwise.
  std::string notice() const;

  // Messages of role and content alone; of the options, the generation prompt, thinking, template arguments and the
  // date. All but the template's own text is letters. Parses the template each time: small beside tokenizing the text.
  // Throws Error(kInput) with the template's own words where it refuses the conversation ("System role not supported"),
  // and where it can't be run, within bounds of time and memory. REQUIRES: !empty().
  PromptText render(std::span<const Message> messages, const ChatOptions& options = {}) const;

  // The error of a template that failed with this message of the engine.
  [[noreturn]] void fail(std::string_view message) const;

 private:
  std::string source_;
  std::string bos_;
  std::string eos_;
  Origin origin_ = Origin::kModel;
  bool by_name_ = false;
};

// The text of a message, its parts joined by line breaks. Throws Error(kUsage) naming `messages` for parts of another
// type, or with content too.
std::string text_of(const Message& message);

}  // namespace lacake
