#pragma once

#include <ctime>
#include <span>
#include <string>

#include "lacake/model.h"

namespace lacake {

class Vocabulary;

struct RenderOptions {
  bool add_generation_prompt = true;  // ends with the opening of the assistant's answer
  std::time_t now = 0;                // for templates that write today's date; 0: the clock
};

// Turns a conversation into the text that a model was trained on, with the Jinja template of its GGUF file. Renders as
// Hugging Face's transformers does (trim_blocks, lstrip_blocks; `tools` and `documents` are none).
// Without a Jinja engine in the build, libllama's list of well-known templates is used instead, and notice() says so.
class ChatTemplate {
 public:
  // No template: empty(). Its owner runs raw text.
  ChatTemplate() = default;

  // An empty source gives an empty template. Whether it is Jinja at all, render() finds out: a model whose template is
  // broken can still run raw text.
  ChatTemplate(std::string source, std::string bos, std::string eos);
  static ChatTemplate of(const Vocabulary& vocabulary);

  // Whether this build runs templates, or only recognises well-known ones.
  static bool has_jinja();

  bool empty() const { return source_.empty(); }

  // One line for the user where the text may differ from what the template says, or where there is no template.
  // "" otherwise.
  std::string notice() const;

  // To be tokenized with {.parse = true, .add = true}. Parses the template each time: small beside tokenizing the text.
  // Throws Error(kInput) with the template's own words where it refuses the conversation ("System role not supported"),
  // and where it can't be run. REQUIRES: !empty().
  std::string render(std::span<const Message> messages, const RenderOptions& options = {}) const;

 private:
  std::string source_;
  std::string bos_;
  std::string eos_;
};

}  // namespace lacake
