#include "text/chat_prompts.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "lacake/error.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

[[noreturn]] void refuse(const char* setting, std::string found) {
  throw Error({.kind = Error::Kind::kUsage, .subject = setting, .found = std::move(found)});
}

constexpr const char* kNoSources = "cannot be used: this build was made without llama.cpp's sources";
constexpr const char* kNoSource = "cannot be used with a chat template that was chosen by name";

bool is_plain(const Message& message) {
  return message.parts.empty() && message.reasoning.empty() && message.tool_calls.empty() && message.name.empty() &&
         message.tool_call_id.empty();
}

// The setting that needs llama.cpp's view of the template; null: none does.
const char* needs_llama_chat(std::span<const Message> messages, const ChatOptions& options) {
  if (!options.tools.empty()) return "tools";
  if (options.continue_last_message) return "continue_last_message";
  if (!std::all_of(messages.begin(), messages.end(), is_plain)) return "messages";
  return nullptr;
}

}  // namespace

ChatPrompts::ChatPrompts(const Vocabulary& vocabulary, ChatTemplate chat_template)
    : vocabulary_(vocabulary), template_(std::move(chat_template)), tokenizer_(vocabulary, template_.source()) {}

// Found out when it is first needed: it takes a hundred small renderings.
const LlamaChat* ChatPrompts::llama_chat() const {
  std::call_once(asked_, [this] { llama_chat_ = LlamaChat::of(template_); });
  return llama_chat_.get();
}

// A template that takes no notice of the wish has no effect; that is said unless it comes to the same.
void ChatPrompts::check_thinking(std::span<const Message> messages, const ChatOptions& options) const {
  if (!options.thinking || llama_chat() == nullptr) return;
  ChatOptions other = options;
  other.thinking = !*options.thinking;
  const LlamaChat::Result as_wished = llama_chat()->apply(messages, options, vocabulary_);
  if (as_wished.text.text != llama_chat()->apply(messages, other, vocabulary_).text.text) return;
  if (*options.thinking == as_wished.state->has_reasoning) return;
  refuse("thinking", *options.thinking ? "the model's chat template knows no thinking"
                                       : "the model's chat template cannot leave thinking out");
}

// How an answer is read that follows a prompt which this library rendered itself. llama.cpp's view fits if both open
// the answer alike.
AnswerFormat ChatPrompts::format_of(const PromptText& text, std::span<const Message> messages,
                                    const ChatOptions& options) const {
  const bool needs_schema = !options.json_schema.empty();
  if (llama_chat() != nullptr && options.add_generation_prompt) {
    for (const bool thinking : {true, false}) {
      if (options.thinking && *options.thinking != thinking) continue;
      ChatOptions with = options;
      with.thinking = thinking;
      try {
        const LlamaChat::Result result = llama_chat()->apply(messages, with, vocabulary_);
        if (text.text.ends_with(result.begun)) return AnswerFormat(result.state);
      } catch (const Error& e) {
        if (e.kind() == Error::Kind::kUsage) throw;
      }
    }
  }
  if (needs_schema) {
    auto state = std::make_shared<AnswerFormat::State>();
    state->grammar = json_schema_grammar(options.json_schema);
    return AnswerFormat(std::move(state));
  }
  return AnswerFormat();
}

ChatPrompt ChatPrompts::prompt(std::span<const Message> messages, const ChatOptions& options) const {
  ChatPrompt result = rendered(messages, options);
  result.tokens = tokenizer_.tokenize(result.text, true);
  return result;
}

ChatPrompt ChatPrompts::rendered(std::span<const Message> messages, const ChatOptions& options) const {
  assert(!template_.empty());
  ChatPrompt result;
  if (const char* setting = needs_llama_chat(messages, options)) {
    if (template_.is_name()) refuse(setting, kNoSource);
    if (llama_chat() == nullptr) {
      if (ChatTemplate::has_jinja()) template_.render(messages, options);  // a broken template says why
      refuse(setting, kNoSources);
    }
    if (!llama_chat()->knows_tools()) {
      if (!options.tools.empty()) refuse("tools", "the model's chat template knows no tools");
      // It would leave them out, and say nothing of it.
      const bool calls =
          std::any_of(messages.begin(), messages.end(), [](const Message& m) { return !m.tool_calls.empty(); });
      if (calls) refuse("messages", "they have calls of tools, and the model's chat template knows no tools");
    }
    check_thinking(messages, options);
    LlamaChat::Result made = llama_chat()->apply(messages, options, vocabulary_);
    result.text = std::move(made.text);
    result.format = AnswerFormat(std::move(made.state));
  } else {
    result.text = template_.render(messages, options);
    check_thinking(messages, options);
    result.format = format_of(result.text, messages, options);
  }
  return result;
}

}  // namespace lacake
