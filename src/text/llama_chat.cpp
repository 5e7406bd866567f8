#include "text/answer_format.h"

#ifdef LACAKE_HAVE_LLAMA_COMMON

#include <chat.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "lacake/error.h"
#include "text/jinja_limits.h"
#include "text/jinja_marks.h"
#include "text/nesting.h"
#include "text/template_depth.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

[[noreturn]] void refuse(const char* setting, std::string expected, std::string found) {
  throw Error(
      {.kind = Error::Kind::kUsage, .subject = setting, .expected = std::move(expected), .found = std::move(found)});
}

void check_json(const char* setting, const std::string& what, const std::string& text, bool object) {
  if (nesting_of(text, true) > kDeepestJson) {
    refuse(setting, fmt::format("JSON of {} levels at most as {}", kDeepestJson, what), "more");
  }
  bool good = true;
  try {
    const common_json value = common_json::parse(text);
    good = !object || value.is_object();
  } catch (const std::exception&) {
    good = false;
  }
  if (!good) refuse(setting, (object ? "a JSON object as " : "JSON as ") + what, "\"" + text + "\"");
}

std::vector<common_chat_msg> messages_of(std::span<const Message> messages) {
  std::vector<common_chat_msg> all;
  for (const Message& message : messages) {
    common_chat_msg one;
    one.role = message.role;
    if (message.parts.empty()) one.content = message.content;
    text_of(message);  // refuses what is no text
    for (const ContentPart& part : message.parts) one.content_parts.push_back({part.type, part.text});
    one.reasoning_content = message.reasoning;
    one.tool_name = message.name;
    one.tool_call_id = message.tool_call_id;
    for (const ToolCall& call : message.tool_calls) {
      check_json("messages", "the arguments of a call of " + call.name, call.arguments, true);
      one.tool_calls.push_back({call.name, call.arguments, call.id});
    }
    all.push_back(std::move(one));
  }
  return all;
}

std::vector<common_chat_tool> tools_of(const std::vector<Tool>& tools) {
  std::vector<common_chat_tool> all;
  for (const Tool& tool : tools) {
    if (tool.name.empty()) refuse("tools", "tools with names", "one without");
    check_json("tools", "the parameters of " + tool.name, tool.parameters, true);
    all.push_back({tool.name, tool.description, tool.parameters});
  }
  return all;
}

common_chat_templates_inputs inputs_of(std::span<const Message> messages, const ChatOptions& options) {
  common_chat_templates_inputs inputs;
  inputs.messages = messages_of(messages);
  inputs.add_generation_prompt = options.add_generation_prompt;
  if (options.continue_last_message) {
    if (messages.empty() || messages.back().role != "assistant") {
      refuse("messages", "an assistant's message last, to be continued",
             messages.empty() ? "none" : messages.back().role);
    }
    inputs.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
  }
  inputs.tools = tools_of(options.tools);
  inputs.tool_choice = options.tool_choice == ToolChoice::kRequired ? COMMON_CHAT_TOOL_CHOICE_REQUIRED
                       : options.tool_choice == ToolChoice::kNone   ? COMMON_CHAT_TOOL_CHOICE_NONE
                                                                    : COMMON_CHAT_TOOL_CHOICE_AUTO;
  inputs.parallel_tool_calls = options.parallel_tool_calls;
  if (!options.json_schema.empty()) check_json("json_schema", "a schema", options.json_schema, false);
  inputs.json_schema = options.json_schema;
  inputs.reasoning_format = options.reasoning_apart ? COMMON_REASONING_FORMAT_AUTO : COMMON_REASONING_FORMAT_NONE;
  inputs.enable_thinking = options.thinking.value_or(true);
  if (options.now != 0) inputs.now = std::chrono::system_clock::from_time_t(options.now);
  for (const auto& [name, value] : options.template_arguments) {
    check_json("template_arguments", "the value of " + name, value, false);
    inputs.chat_template_kwargs[name] = value;
  }
  return inputs;
}

std::size_t bytes_of(std::span<const Message> messages, const ChatOptions& options) {
  std::size_t bytes = options.json_schema.size();
  for (const Message& m : messages) {
    bytes += m.content.size() + m.reasoning.size();
    for (const ContentPart& part : m.parts) bytes += part.text.size();
    for (const ToolCall& call : m.tool_calls) bytes += call.arguments.size();
  }
  for (const Tool& tool : options.tools) bytes += tool.description.size() + tool.parameters.size();
  return bytes;
}

// The token that is this text, if there is one.
std::optional<Token> one_token(const Vocabulary& vocabulary, const std::string& text) {
  const std::vector<Token> tokens = vocabulary.tokenize(text, {.parse = true});
  return tokens.size() == 1 ? std::optional<Token>(tokens.front()) : std::nullopt;
}

class LlamaState : public AnswerFormat::State {
 public:
  LlamaState(const common_chat_params& params, const ChatOptions& options, const Vocabulary& vocabulary)
      : syntax_(params) {
    if (!params.parser.empty()) syntax_.parser.load(params.parser);
    syntax_.reasoning_format = options.reasoning_apart ? COMMON_REASONING_FORMAT_AUTO : COMMON_REASONING_FORMAT_NONE;
    syntax_.is_continuation = options.continue_last_message;
    begun = params.generation_prompt;
    n_nested_ = nesting_of(begun, false);
    if (n_nested_ > kDeepestAnswer) {
      refuse("messages", fmt::format("brackets in brackets {} deep at most, where one is continued", kDeepestAnswer),
             "more");
    }
    stops = params.additional_stops;
    has_reasoning = options.reasoning_apart && params.supports_thinking;
    has_tool_calls = !options.tools.empty() && options.tool_choice != ToolChoice::kNone;
    set_shown(params, vocabulary);
    set_grammar(params, vocabulary);
    if (!params.thinking_start_tag.empty() && !params.thinking_end_tags.empty()) {
      reasoning_open = vocabulary.tokenize(params.thinking_start_tag, {.parse = true});
      for (const std::string& tag : params.thinking_end_tags) {
        reasoning_close.push_back(vocabulary.tokenize(tag, {.parse = true}));
      }
    }
    if (options.continue_last_message) {
      const common_chat_msg begun_with = common_chat_parse("", true, syntax_);
      continued_content_ = begun_with.render_content();
      continued_reasoning_ = begun_with.reasoning_content;
    }
  }

  ParsedAnswer parse(const std::string& text, bool partial) const override {
    if (n_nested_ + nesting_of(text, false) > kDeepestAnswer) throw std::runtime_error("too deep");  // it stays a text
    const common_chat_msg message = common_chat_parse(text, partial, syntax_);
    ParsedAnswer answer = {message.render_content(), message.reasoning_content, {}};
    // What the prompt has of a message that is continued is no part of the answer.
    if (answer.content.starts_with(continued_content_)) answer.content.erase(0, continued_content_.size());
    if (answer.reasoning.starts_with(continued_reasoning_)) answer.reasoning.erase(0, continued_reasoning_.size());
    for (const common_chat_tool_call& call : message.tool_calls) {
      answer.tool_calls.push_back({call.name, call.arguments, call.id});
    }
    return answer;
  }

 private:
  void set_shown(const common_chat_params& params, const Vocabulary& vocabulary) {
    for (const std::string& text : params.preserved_tokens) {
      if (const auto token = one_token(vocabulary, text)) shown_tokens.push_back(*token);
    }
    std::sort(shown_tokens.begin(), shown_tokens.end());
    shown_tokens.erase(std::unique(shown_tokens.begin(), shown_tokens.end()), shown_tokens.end());
  }

  void set_grammar(const common_chat_params& params, const Vocabulary& vocabulary) {
    grammar = params.grammar;
    grammar_lazy = params.grammar_lazy;
    using Kind = GrammarTrigger::Kind;
    for (const common_grammar_trigger& trigger : params.grammar_triggers) {
      switch (trigger.type) {
        case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:
          triggers.push_back({Kind::kToken, trigger.value, trigger.token});
          break;
        case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:
          // A word that is one token is watched for as that.
          if (const auto token = one_token(vocabulary, trigger.value)) {
            triggers.push_back({Kind::kToken, trigger.value, *token});
          } else {
            triggers.push_back({Kind::kWord, trigger.value, -1});
          }
          break;
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:
          triggers.push_back({Kind::kPattern, trigger.value, -1});
          break;
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL:
          triggers.push_back({Kind::kWholePattern, trigger.value, -1});
          break;
      }
    }
  }

  common_chat_parser_params syntax_;
  std::size_t n_nested_ = 0;  // brackets that lie in each other in what the prompt has of the answer
  std::string continued_content_, continued_reasoning_;
};

class PinnedLlamaChat : public LlamaChat {
 public:
  explicit PinnedLlamaChat(const ChatTemplate& chat_template) : template_(chat_template) {
    const JinjaLimits limits(0, chat_template.source().size());
    parse_template(chat_template.source());  // refuses what is nested too deeply for the next line
    templates_ = common_chat_templates_init(nullptr, chat_template.source(), chat_template.bos(), chat_template.eos());
    const std::map<std::string, bool> can = common_chat_templates_get_caps(templates_.get());
    const auto has = [&](const char* name) {
      const auto found = can.find(name);
      return found != can.end() && found->second;
    };
    knows_tools_ = has("supports_tools") || has("supports_tool_calls");
  }

  bool knows_tools() const override { return knows_tools_; }

  // One at a time in the whole process: llama.cpp asks localtime() for today's date, whose answer all threads share.
  common_chat_params applied(const common_chat_templates_inputs& inputs) const {
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    return common_chat_templates_apply(templates_.get(), inputs);
  }

  Result apply(std::span<const Message> messages, const ChatOptions& options,
               const Vocabulary& vocabulary) const override {
    const common_chat_templates_inputs inputs = inputs_of(messages, options);
    try {
      const JinjaLimits limits(messages.size(), bytes_of(messages, options) + template_.source().size());
      const KeptRenderings renderings;
      const common_chat_params params = applied(inputs);
      std::vector<std::string> added;
      if (options.continue_last_message) {
        const Message& last = messages.back();
        for (const std::string& text : {last.reasoning, text_of(last)}) {
          if (!text.empty()) added.push_back(text);
        }
      }
      auto state = std::make_shared<LlamaState>(params, options, vocabulary);
      return {renderings.marks_of(params.prompt, added), params.generation_prompt, std::move(state)};
    } catch (const Error&) {
      throw;
    } catch (const std::exception& e) {
      template_.fail(e.what());
    }
  }

 private:
  ChatTemplate template_;
  common_chat_templates_ptr templates_;
  bool knows_tools_ = false;
};

}  // namespace

bool LlamaChat::in_this_build() { return true; }

std::unique_ptr<const LlamaChat> LlamaChat::of(const ChatTemplate& chat_template) {
  if (chat_template.empty() || chat_template.is_name()) return nullptr;
  try {
    return std::make_unique<PinnedLlamaChat>(chat_template);
  } catch (const std::exception&) {
    return nullptr;  // a broken template: rendering it says why
  }
}

}  // namespace lacake

#else

namespace lacake {

bool LlamaChat::in_this_build() { return false; }

std::unique_ptr<const LlamaChat> LlamaChat::of(const ChatTemplate&) { return nullptr; }

}  // namespace lacake

#endif
