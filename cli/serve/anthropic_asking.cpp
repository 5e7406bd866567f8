// What a request to Anthropic's API asks for.

#include <fmt/format.h>

#include "serve/asking.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

// Claude Code begins its system prompt with a line for the service, in which a token changes with every request
// ("x-anthropic-billing-header: ...; cch=1a2b3;"). As it says nothing to the model, the token is made the same each
// time, so that what was read before is found again. Other texts stay as they are, whatever they say.
std::string without_changing_token(std::string text) {
  constexpr std::string_view kLine = "x-anthropic-billing-header:", kMark = " cch=";
  if (!text.starts_with(kLine)) return text;
  const std::size_t line_end = std::min(text.find('\n'), text.size());
  const std::size_t at = std::string_view(text).substr(0, line_end).find(kMark);
  if (at == text.npos) return text;
  const std::size_t begin = at + kMark.size();
  std::size_t end = begin;
  while (end < line_end && std::isalnum((unsigned char)text[end])) ++end;
  if (end < line_end && text[end] == ';') text.replace(begin, end - begin, "0");
  return text;
}

std::string system_text(const json& system) {
  if (system.is_string()) return without_changing_token(system.get<std::string>());
  if (!system.is_array()) refuse_field("system", "a text or a list of parts", system);
  std::string text;
  for (std::size_t i = 0; i < system.size(); ++i) {
    const std::string one = text_of_part(system[i], fmt::format("system[{}]", i));
    if (!text.empty() && !one.empty()) text += "\n";
    text += i == 0 ? without_changing_token(one) : one;
  }
  return text;
}

// A message's parts become one message, and one more for each result of a tool.
void add_message(const json& given, const std::string& where, std::vector<Message>& all) {
  if (!given.is_object()) refuse_field(where, "an object", given);
  const Fields fields(given, where + ".");
  const std::string role = fields.text("role").value_or("");
  if (role != "user" && role != "assistant" && role != "system") {
    refuse_field(where + ".role", "user or assistant", role);
  }
  const json* const content = fields.find("content");
  if (!content) refuse_field(where + ".content", "a text or a list of parts", json());
  Message message{.role = role};
  if (content->is_string()) {
    message.content = content->get<std::string>();
    all.push_back(std::move(message));
    return;
  }
  if (!content->is_array()) refuse_field(where + ".content", "a text or a list of parts", *content);
  bool has_own = content->empty();
  for (std::size_t i = 0; i < content->size(); ++i) {
    const json& part = (*content)[i];
    const std::string part_where = fmt::format("{}.content[{}]", where, i);
    if (!part.is_object()) refuse_field(part_where, "an object", part);
    const Fields own(part, part_where + ".");
    const auto type = own.text("type");
    if (type == "text") {
      message.content += own.needed_text("text");
      has_own = true;
    } else if (type == "thinking") {
      message.reasoning += own.text("thinking").value_or("");
      has_own = true;
    } else if (type == "redacted_thinking") {
      has_own = true;
    } else if (type == "tool_use") {
      if (role != "assistant") refuse_field(own.path("type"), "no tool_use but in an assistant's message", *type);
      const json* const input = own.find("input");
      message.tool_calls.push_back({.name = own.needed_text("name"),
                                    .arguments = input ? input->dump() : "{}",
                                    .id = own.text("id").value_or("")});
      has_own = true;
    } else if (type == "tool_result") {
      const json* const result = own.find("content");
      const std::string text = result ? text_of_content(*result, own.path("content")) : "";
      const std::string id = own.text("tool_use_id").value_or("");
      all.push_back({.role = "tool", .content = text, .tool_call_id = id});
    } else {
      refuse_field(own.path("type"), "text, thinking, tool_use or tool_result", type ? json(*type) : json());
    }
  }
  if (has_own) all.push_back(std::move(message));
}

}  // namespace

std::vector<Message> messages_of_anthropic(const Fields& fields) {
  std::vector<Message> all;
  if (const json* const system = fields.find("system")) {
    std::string text = system_text(*system);
    if (!text.empty()) all.push_back({.role = "system", .content = std::move(text)});
  }
  const json* const messages = fields.list("messages");
  if (!messages || messages->empty())
    refuse_field("messages", "a list of one message or more", messages ? *messages : json());
  for (std::size_t i = 0; i < messages->size(); ++i) add_message((*messages)[i], fmt::format("messages[{}]", i), all);
  return all;
}

namespace {

// Tools that the service itself runs have a type with a date ("web_search_20250305"), but for a few, and no schema.
bool is_of_service(const std::string& type) {
  constexpr std::size_t kDate = 8;
  const std::size_t end = type.find_last_not_of("0123456789");
  return type == "mcp_toolset" || type.starts_with("tool_search_tool_") ||
         (end != type.npos && type[end] == '_' && type.size() - end - 1 == kDate);
}

// What the content must follow. `output_format` is the older name.
void set_output_format(ChatOptions& chat, const Fields& fields) {
  const json* const config = fields.object("output_config");
  const json* const format = config ? Fields(*config, "output_config.").object("format") : nullptr;
  const json* const older = fields.object("output_format");
  if (format && older) refuse_field("output_format", "none beside output_config.format", *older);
  if (!format && !older) return;
  const Fields own(format ? *format : *older, format ? "output_config.format." : "output_format.");
  set_format(chat, own, own.object("schema"), own.path("schema"));
}

}  // namespace

ChatOptions chat_options_of_anthropic(const Fields& fields, const ServeDefaults& defaults) {
  ChatOptions chat = defaults.chat;
  if (const json* const tools = fields.list("tools")) {
    const std::vector<Tool> own_tools = tools_of(*tools, [](const Fields& own) -> std::optional<Tool> {
      const std::string type = own.text("type").value_or("custom");
      if (is_of_service(type)) return {};  // it runs it, as nobody does here
      if (type != "custom") refuse_field(own.path("type"), "custom, or a tool of the service with its date", type);
      return tool_of(own, "input_schema");
    });
    chat.tools.insert(chat.tools.end(), own_tools.begin(), own_tools.end());
  }
  if (const json* const choice = fields.object("tool_choice")) {
    const Fields own(*choice, "tool_choice.");
    const std::string type = own.text("type").value_or("auto");
    if (type == "any") chat.tool_choice = ToolChoice::kRequired;
    if (type == "none") chat.tool_choice = ToolChoice::kNone;
    if (type == "tool") require_tool(chat, own);
    if (type != "auto" && type != "any" && type != "tool" && type != "none") {
      refuse_field("tool_choice.type", "auto, any, tool or none", type);
    }
    if (const auto single = own.flag("disable_parallel_tool_use")) chat.parallel_tool_calls = !*single;
  }
  set_output_format(chat, fields);
  check_tool_choice(chat);
  return chat;
}

}  // namespace lacake::cli
