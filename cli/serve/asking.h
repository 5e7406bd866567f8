#pragma once

// What clients' fields mean: samplers, lengths, messages, tools. The names are OpenAI's and llama.cpp's; docs/server.md
// lists them.

#include <nlohmann/json.hpp>
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

// `messages` as OpenAI's API has them. Throws Error(kUsage) naming the field ("messages[2].content").
std::vector<Message> openai_messages(const nlohmann::json& messages);
// `tools`: functions; other kinds are skipped.
std::vector<Tool> openai_tools(const nlohmann::json& tools);
// tools, tool_choice, parallel_tool_calls, response_format, chat_template_kwargs, reasoning.
ChatOptions openai_chat_options(const Fields& fields, const ServeDefaults& defaults);

// The object `lacake` of a request: policy and kv_budget. None where it says nothing of them.
std::optional<SessionOptions> session_of(const Fields& fields, const ServeDefaults& defaults);

// Mime parts that a content list may hold: its texts, one after the other.
std::string text_of_content(const nlohmann::json& content, const std::string& where);

}  // namespace lacake::cli
