// What a request to OpenAI's newer API asks for.

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "serve/asking.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

// Calls that the service ran itself, elsewhere: what came of them stands in the answer behind them.
bool is_call_of_service(const std::string& type) {
  constexpr std::string_view kTypes[] = {"web_search_call", "file_search_call", "code_interpreter_call",
                                         "image_generation_call", "mcp_list_tools"};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

// Tools that clients offer whoever answers; nobody here could run them, or hold to their grammar.
bool is_ignored_tool(const std::string& type) {
  constexpr std::string_view kTypes[] = {"custom",
                                         "local_shell",
                                         "shell",
                                         "apply_patch",
                                         "file_search",
                                         "code_interpreter",
                                         "image_generation",
                                         "mcp",
                                         "namespace",
                                         "computer",
                                         "computer_use_preview",
                                         "tool_search",
                                         "programmatic_tool_calling"};
  return type.starts_with("web_search") || std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

// A message, a call of a tool or its result. Calls that follow an assistant's message, or each other, are one message.
void add_item(const json& item, const std::string& where, std::vector<Message>& all) {
  if (!item.is_object()) refuse_field(where, "an object", item);
  const Fields fields(item, where + ".");
  const std::string type = fields.text("type").value_or("message");
  if (type == "message") {
    Message message{.role = fields.text("role").value_or("")};
    if (message.role == "developer") message.role = "system";
    if (message.role != "user" && message.role != "assistant" && message.role != "system") {
      refuse_field(where + ".role", "user, assistant, system or developer", message.role);
    }
    const json* const content = fields.find("content");
    if (content || message.role != "assistant") {
      message.content = text_of_content(content ? *content : json(), where + ".content");
    }
    if (message.role == "assistant" && !all.empty() && all.back().role == "assistant" && all.back().content.empty() &&
        all.back().tool_calls.empty()) {
      all.back().content = std::move(message.content);  // behind its reasoning
    } else {
      all.push_back(std::move(message));
    }
  } else if (type == "function_call" || type == "custom_tool_call") {
    if (all.empty() || all.back().role != "assistant") all.push_back({.role = "assistant"});
    // What a custom tool gets is a text of any form: templates know arguments by their names.
    const bool custom = type == "custom_tool_call";
    const std::string arguments =
        custom ? json{{"input", fields.needed_text("input")}}.dump() : fields.text("arguments").value_or("{}");
    all.back().tool_calls.push_back(
        {.name = fields.needed_text("name"), .arguments = arguments, .id = fields.text("call_id").value_or("")});
  } else if (type == "function_call_output" || type == "custom_tool_call_output") {
    const json* const output = fields.find("output");
    const std::string text = text_of_content(output ? *output : json(), where + ".output");
    const std::string id = fields.text("call_id").value_or("");
    all.push_back({.role = "tool", .content = text, .tool_call_id = id});
  } else if (type == "reasoning") {
    Message message{.role = "assistant"};
    const json* const content = fields.list("content");
    for (const json& part : content ? *content : json::array()) {
      if (part.is_object()) message.reasoning += Fields(part).text("text").value_or("");
    }
    if (!message.reasoning.empty()) all.push_back(std::move(message));
  } else if (!is_call_of_service(type)) {
    refuse_field(where + ".type",
                 "message, reasoning, function_call, function_call_output, custom_tool_call or "
                 "custom_tool_call_output",
                 type);
  }
}

}  // namespace

std::vector<Message> messages_of_responses(const Fields& fields) {
  std::vector<Message> all;
  if (const auto instructions = fields.text("instructions"); instructions && !instructions->empty()) {
    all.push_back({.role = "system", .content = *instructions});
  }
  const json* const input = fields.find("input");
  if (input && input->is_string()) {
    all.push_back({.role = "user", .content = input->get<std::string>()});
  } else if (input && input->is_array() && !input->empty()) {
    for (std::size_t i = 0; i < input->size(); ++i) add_item((*input)[i], fmt::format("input[{}]", i), all);
  } else {
    refuse_field("input", "a text, or a list of one item or more", input ? *input : json());
  }
  return all;
}

ChatOptions chat_options_of_responses(const Fields& fields, const ServeDefaults& defaults) {
  ChatOptions chat = defaults.chat;
  if (const json* const tools = fields.list("tools")) {
    const std::vector<Tool> functions = tools_of(*tools, [](const Fields& own) -> std::optional<Tool> {
      const auto type = own.text("type");
      if (type && is_ignored_tool(*type)) return {};
      if (type != "function") {
        refuse_field(own.path("type"), "function, or a tool of the service", type ? json(*type) : json());
      }
      return tool_of(own, "parameters");
    });
    chat.tools.insert(chat.tools.end(), functions.begin(), functions.end());
  }
  if (const json* const choice = fields.find("tool_choice")) {
    choice->is_object() ? require_tool(chat, Fields(*choice, "tool_choice.")) : choose_tools(chat, *choice);
  }
  if (const auto parallel = fields.flag("parallel_tool_calls")) chat.parallel_tool_calls = *parallel;
  if (const json* const text = fields.object("text")) {
    if (const json* const format = Fields(*text, "text.").object("format")) {
      const Fields own(*format, "text.format.");
      set_format(chat, own, own.object("schema"), "text.format.schema");
    }
  }
  check_tool_choice(chat);
  // How much of it a model does, its template says; what is asked for is still no nonsense.
  if (const json* const reasoning = fields.object("reasoning")) (void)Fields(*reasoning, "reasoning.").text("effort");
  return chat;
}

}  // namespace lacake::cli
