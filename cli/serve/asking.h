#pragma once

// What clients' fields mean: samplers, lengths, messages, tools. The names are OpenAI's and llama.cpp's; docs/server.md
// lists them.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lacake/scheduler.h"
#include "serve/fields.h"

namespace lacake::cli {

// What a request starts from: the options of the command line.
struct ServeDefaults {
  GenerationOptions generation;
  ChatOptions chat;
  SessionOptions session;  // for `lacake.policy` and `lacake.kv_budget`
};

// Samplers, lengths, stop strings, seed, grammar. Throws Error(kUsage) naming the field.
GenerationOptions generation_of(const Fields& fields, const ServeDefaults& defaults);
// The same of a text without chat template: no template begins reasoning there, whose length a default could bound.
GenerationOptions generation_of_text(const Fields& fields, const ServeDefaults& defaults);
// How long an answer may be, which several names say, clients more than one of them: the same then. None where no field
// says it; negative: as long as there is room.
std::optional<std::int64_t> length_of(const Fields& fields, std::initializer_list<const char*> names);

// `messages` as OpenAI's API has them. Throws Error(kUsage) naming the field ("messages[2].content").
std::vector<Message> openai_messages(const nlohmann::json& messages);
// The tools of a list, each an object. `one` gets its fields, and says what becomes of it: nothing, or tool_of().
std::vector<Tool> tools_of(const nlohmann::json& tools, const std::function<std::optional<Tool>(const Fields&)>& one);
// A tool by its name, its description and, in the field `schema`, that of its arguments.
Tool tool_of(const Fields& fields, const char* schema);
// A `tool_choice` that is a word.
void choose_tools(ChatOptions& chat, const nlohmann::json& choice);
// One that names a tool in its field `name`: only that one may be called, and must be.
void require_tool(ChatOptions& chat, const Fields& choice);
// Refuses to require a call of tools where there are none, or beside a format of the content, which a call is not.
void check_tool_choice(const ChatOptions& chat);
// What the answer's content must follow: `type` of the format, and the schema where it has one, a field of this name.
void set_format(ChatOptions& chat, const Fields& format, const nlohmann::json* schema, const std::string& schema_path);
// `response_format`.
void set_response_format(ChatOptions& chat, const Fields& fields);
// tools, tool_choice, parallel_tool_calls, response_format, chat_template_kwargs, reasoning.
ChatOptions openai_chat_options(const Fields& fields, const ServeDefaults& defaults);

// The same of Anthropic's API, and of OpenAI's newer one.
std::vector<Message> messages_of_anthropic(const Fields& fields);
ChatOptions chat_options_of_anthropic(const Fields& fields, const ServeDefaults& defaults);
std::vector<Message> messages_of_responses(const Fields& fields);
ChatOptions chat_options_of_responses(const Fields& fields, const ServeDefaults& defaults);
// Where the last message is an assistant's, the answer goes on in it, as in llama-server and in Anthropic's API;
// `add_generation_prompt` and `continue_final_message` say otherwise.
void go_on_with_last(ChatOptions& chat, const Fields& fields, const std::vector<Message>& messages);

// The object `lacake` of a request: policy and kv_budget. None where it says nothing of them. It is ours alone, so what
// it has besides is refused; `session` belongs to conversations.
std::optional<SessionOptions> session_of(const Fields& fields, const ServeDefaults& defaults, bool conversation);

// A part of a content list: a text.
std::string text_of_part(const nlohmann::json& part, const std::string& where);
// A text, or a list of parts: their texts, one after the other.
std::string text_of_content(const nlohmann::json& content, const std::string& where);

}  // namespace lacake::cli
