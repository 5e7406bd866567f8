#include "serve/asking.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "lacake/error.h"
#include "lacake/sampler.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

constexpr double kMany = 1e6;
constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

struct RealField {
  const char* name;
  float SamplerOptions::*member;
  double least, most;
};

constexpr RealField kReals[] = {
    {"temperature", &SamplerOptions::temp, 0, kMany},
    {"dynatemp_range", &SamplerOptions::dynatemp_range, 0, kMany},
    {"dynatemp_exponent", &SamplerOptions::dynatemp_exponent, -1e3, 1e3},
    {"top_p", &SamplerOptions::top_p, 0, 1},
    {"min_p", &SamplerOptions::min_p, 0, 1},
    {"typical_p", &SamplerOptions::typical_p, 0, 1},
    {"top_n_sigma", &SamplerOptions::top_n_sigma, -1, 1e3},
    {"xtc_probability", &SamplerOptions::xtc_probability, 0, 1},
    {"xtc_threshold", &SamplerOptions::xtc_threshold, 0, 1},
    {"repeat_penalty", &SamplerOptions::repeat_penalty, 1e-3, 1e3},
    {"repetition_penalty", &SamplerOptions::repeat_penalty, 1e-3, 1e3},
    {"presence_penalty", &SamplerOptions::presence_penalty, -1e3, 1e3},
    {"frequency_penalty", &SamplerOptions::frequency_penalty, -1e3, 1e3},
    {"dry_multiplier", &SamplerOptions::dry_multiplier, 0, 1e3},
    {"dry_base", &SamplerOptions::dry_base, 1, 1e3},
    {"mirostat_tau", &SamplerOptions::mirostat_tau, 0, 1e3},
    {"mirostat_eta", &SamplerOptions::mirostat_eta, 0, 1e3},
};

struct WholeField {
  const char* name;
  std::int32_t SamplerOptions::*member;
  std::int64_t least, most;
};

constexpr WholeField kWholes[] = {
    {"top_k", &SamplerOptions::top_k, -1, kMost},
    {"min_keep", &SamplerOptions::min_keep, 0, kMost},
    {"repeat_last_n", &SamplerOptions::repeat_last_n, 0, kMost},
    {"dry_allowed_length", &SamplerOptions::dry_allowed_length, 0, kMost},
    {"dry_penalty_last_n", &SamplerOptions::dry_penalty_last_n, 0, kMost},
    {"mirostat", &SamplerOptions::mirostat, 0, 2},
    {"reasoning_budget_tokens", &SamplerOptions::reasoning_budget, -1, kMost},
};

float bias_of(const json& value, const std::string& where) {
  if (value.is_boolean() && !value.get<bool>()) return -INFINITY;
  if (!value.is_number()) refuse_field(where, "a number, or false", value);
  return value.get<float>();
}

Token token_of(const json& value, const std::string& where) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > kMost) {
    refuse_field(where, "a token's number", value);
  }
  return value.get<Token>();
}

// A text in the place of a token.
std::string biased_text(const std::string& text) {
  if (text.empty()) refuse_field("logit_bias", "a token or a text before each bias", text);
  return text;
}

// A key that is a whole number is a token's, and no text, also where there is no such token.
LogitBias bias_by_key(const std::string& key) {
  const std::string_view digits = std::string_view(key).substr(key.starts_with('-') ? 1 : 0);
  const bool is_number = !digits.empty() && digits.find_first_not_of("0123456789") == digits.npos;
  if (!is_number) return {.text = biased_text(key)};
  constexpr std::size_t kSafe = 9;  // digits that an int holds
  if (digits.size() > kSafe || digits.size() < key.size()) refuse_field("logit_bias", "a token's number", key);
  return {.token = std::stoi(key)};
}

// {"1639": -100} as OpenAI has it, or [[1639, -100], ["text", false]] as llama.cpp has.
std::vector<LogitBias> biases_of(const json& value) {
  const std::string where = "logit_bias";
  std::vector<LogitBias> biases;
  if (value.is_object()) {
    for (const auto& [key, bias] : value.items()) {
      LogitBias one = bias_by_key(key);
      one.bias = bias_of(bias, where);
      biases.push_back(std::move(one));
    }
    return biases;
  }
  if (!value.is_array()) refuse_field(where, "an object or a list of pairs", value);
  for (const json& pair : value) {
    if (!pair.is_array() || pair.size() != 2) refuse_field(where, "pairs of a token or text and a number", pair);
    LogitBias one{.bias = bias_of(pair[1], where)};
    pair[0].is_string() ? void(one.text = biased_text(pair[0].get<std::string>()))
                        : void(one.token = token_of(pair[0], where));
    biases.push_back(std::move(one));
  }
  return biases;
}

// Refuses one that no answer can be held to, by the name that the client has for it.
void check_schema(const std::string& schema, const std::string& path) {
  try {
    (void)json_schema_grammar(schema);
  } catch (const Error& error) {
    Error::Fields fields = error.fields();
    if (fields.subject == "json_schema") fields.subject = path;
    throw Error(std::move(fields));
  }
}

std::vector<ToolCall> calls_of(const json& calls, const std::string& where) {
  if (!calls.is_array()) refuse_field(where, "a list", calls);
  std::vector<ToolCall> all;
  for (const json& call : calls) {
    const json* const function = call.is_object() ? Fields(call, where + ".").object("function") : nullptr;
    if (!function) refuse_field(where, "calls with a \"function\"", call);
    const Fields fields(*function, where + ".function.");
    const json* const arguments = fields.find("arguments");
    all.push_back({.name = fields.text("name").value_or(""),
                   .arguments = !arguments               ? "{}"
                                : arguments->is_string() ? arguments->get<std::string>()
                                                         : arguments->dump(),
                   .id = Fields(call, where + ".").text("id").value_or("")});
    if (all.back().name.empty()) refuse_field(where + ".function.name", "a name", "");
  }
  return all;
}

}  // namespace

std::optional<std::int64_t> length_of(const Fields& fields, std::initializer_list<const char*> names) {
  std::optional<std::int64_t> length;
  const char* by = nullptr;
  for (const char* name : names) {
    const auto n = fields.whole(name, -1, kMost);
    if (!n) continue;
    if (length && *n != *length) refuse_field(name, fmt::format("{}, as {} says", *length, by), *n);
    length = n, by = name;
  }
  return length;
}

GenerationOptions generation_of(const Fields& fields, const ServeDefaults& defaults) {
  GenerationOptions generation = defaults.generation;
  SamplerOptions& sampling = generation.sampling;
  for (const RealField& field : kReals) {
    if (const auto value = fields.real(field.name, field.least, field.most)) sampling.*field.member = (float)*value;
  }
  for (const WholeField& field : kWholes) {
    if (const auto value = fields.whole(field.name, field.least, field.most)) {
      sampling.*field.member = (std::int32_t)*value;
    }
  }
  if (const auto seed = fields.whole("seed", -1, std::numeric_limits<std::uint32_t>::max())) {
    sampling.seed = *seed < 0 ? SamplerOptions::kRandomSeed : (std::uint32_t)*seed;
  }
  if (const auto n = length_of(fields, {"n_predict", "max_tokens", "max_completion_tokens"})) {
    generation.limits.answer = *n < 0 ? std::optional<std::size_t>() : std::optional((std::size_t)*n);
  }
  if (fields.find("stop")) generation.stop = fields.texts("stop");
  std::erase(generation.stop, "");
  if (const json* const bias = fields.find("logit_bias")) sampling.logit_bias = biases_of(*bias);
  if (const auto ignore = fields.flag("ignore_eos")) sampling.ignore_eos = *ignore;
  if (const auto grammar = fields.text("grammar")) sampling.grammar = *grammar;
  if (const json* const schema = fields.object("json_schema")) sampling.json_schema = schema->dump();
  if (fields.find("dry_sequence_breakers")) sampling.dry_sequence_breakers = fields.texts("dry_sequence_breakers");
  if (const json* const samplers = fields.find("samplers")) {
    if (samplers->is_string()) {
      sampling.samplers = parse_sampler_letters(samplers->get<std::string>());
    } else {
      std::string names;
      for (const std::string& name : fields.texts("samplers")) names += (names.empty() ? "" : ";") + name;
      sampling.samplers = parse_samplers(names);
    }
  }
  return generation;
}

GenerationOptions generation_of_text(const Fields& fields, const ServeDefaults& defaults) {
  GenerationOptions generation = generation_of(fields, defaults);
  if (!fields.find("reasoning_budget_tokens")) generation.sampling.reasoning_budget = -1;
  return generation;
}

std::string text_of_part(const json& part, const std::string& where) {
  if (!part.is_object()) refuse_field(where, "an object", part);
  const Fields fields(part, where + ".");
  const auto type = fields.text("type");
  const bool is_text =
      type ? type == "text" || type == "input_text" || type == "output_text" : fields.find("text") != nullptr;
  if (!is_text) refuse_field(where + ".type", "\"text\": this model reads nothing else", type ? json(*type) : json());
  return fields.needed_text("text");
}

std::string text_of_content(const json& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) refuse_field(where, "a text or a list of parts", content);
  std::string text;
  for (std::size_t i = 0; i < content.size(); ++i) text += text_of_part(content[i], fmt::format("{}[{}]", where, i));
  return text;
}

std::vector<Message> openai_messages(const json& messages) {
  if (!messages.is_array() || messages.empty()) refuse_field("messages", "a list of one message or more", messages);
  std::vector<Message> all;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    if (!messages[i].is_object()) refuse_field(where, "an object", messages[i]);
    const Fields fields(messages[i], where + ".");
    Message message{.role = fields.text("role").value_or("")};
    if (message.role.empty()) refuse_field(where + ".role", "a role", "");
    if (message.role == "developer") message.role = "system";
    // Only an answer may have said nothing: it called tools, or was stopped.
    const json* const content = fields.find("content");
    if (content || message.role != "assistant") {
      message.content = text_of_content(content ? *content : json(), where + ".content");
    }
    if (const json* const calls = fields.find("tool_calls"); calls && !calls->empty()) {
      if (message.role != "assistant") {
        refuse_field(where + ".role", "assistant, where there are tool_calls", message.role);
      }
      message.tool_calls = calls_of(*calls, where + ".tool_calls");
    }
    message.reasoning = fields.text("reasoning_content").value_or("");
    message.name = fields.text("name").value_or("");
    message.tool_call_id = fields.text("tool_call_id").value_or("");
    all.push_back(std::move(message));
  }
  return all;
}

std::vector<Tool> tools_of(const json& tools, const std::function<std::optional<Tool>(const Fields&)>& one) {
  if (!tools.is_array()) refuse_field("tools", "a list", tools);
  std::vector<Tool> all;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    if (!tools[i].is_object()) refuse_field(where, "an object", tools[i]);
    if (std::optional<Tool> tool = one(Fields(tools[i], where + "."))) all.push_back(std::move(*tool));
  }
  return all;
}

Tool tool_of(const Fields& fields, const char* schema) {
  Tool tool{.name = fields.text("name").value_or(""), .description = fields.text("description").value_or("")};
  if (tool.name.empty()) refuse_field(fields.path("name"), "a name", "");
  if (const json* const arguments = fields.object(schema)) tool.parameters = arguments->dump();
  return tool;
}

void check_tool_choice(const ChatOptions& chat) {
  if (chat.tool_choice != ToolChoice::kRequired) return;
  if (chat.tools.empty()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "tool_choice",
                 .expected = "auto or none, where there are no tools to call",
                 .found = "one that requires a call"});
  }
  if (!chat.json_schema.empty()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "tool_choice",
                 .expected = "auto or none, where the answer's content has a format",
                 .found = "one that requires a call"});
  }
}

void choose_tools(ChatOptions& chat, const json& choice) {
  if (choice == "required") {
    chat.tool_choice = ToolChoice::kRequired;
  } else if (choice == "none") {
    chat.tool_choice = ToolChoice::kNone;
  } else if (choice != "auto") {
    refuse_field("tool_choice", "auto, none, required or a function", choice);
  }
}

void require_tool(ChatOptions& chat, const Fields& choice) {
  const std::string name = choice.text("name").value_or("");
  std::erase_if(chat.tools, [&](const Tool& tool) { return tool.name != name; });
  if (chat.tools.empty()) refuse_field(choice.path("name"), "one of the tools", name);
  chat.tool_choice = ToolChoice::kRequired;
}

void set_format(ChatOptions& chat, const Fields& format, const json* schema, const std::string& schema_path) {
  const std::string type = format.text("type").value_or("");
  if (type == "json_schema" && !schema) refuse_field(schema_path, "an object", json());
  if (type == "json_schema" || type == "json_object") {
    if (schema) check_schema(schema->dump(), schema_path);
    chat.json_schema = schema ? schema->dump() : R"({"type":"object"})";
  } else if (type != "text") {
    refuse_field(format.path("type"), "text, json_object or json_schema", type);
  }
}

void set_response_format(ChatOptions& chat, const Fields& fields) {
  const json* const format = fields.object("response_format");
  if (!format) return;
  const Fields own(*format, "response_format.");
  const json* const named = own.object("json_schema");
  const json* const bare = named ? nullptr : own.object("schema");  // as llama-server has it
  const Fields named_fields(named ? *named : *format, "response_format.json_schema.");
  set_format(chat, own, named ? named_fields.object("schema") : bare,
             bare ? own.path("schema") : named_fields.path("schema"));
}

ChatOptions openai_chat_options(const Fields& fields, const ServeDefaults& defaults) {
  ChatOptions chat = defaults.chat;
  if (const json* const tools = fields.list("tools")) {
    chat.tools = tools_of(*tools, [](const Fields& own) -> std::optional<Tool> {
      const std::string type = own.text("type").value_or("function");
      if (type != "function") refuse_field(own.path("type"), "function", type);
      const json* const function = own.object("function");
      if (!function) refuse_field(own.path("function"), "an object", json());
      return tool_of(Fields(*function, own.path("function.")), "parameters");
    });
  }
  if (const json* const choice = fields.find("tool_choice")) {
    const json* const function = choice->is_object() ? Fields(*choice, "tool_choice.").object("function") : nullptr;
    function ? require_tool(chat, Fields(*function, "tool_choice.function.")) : choose_tools(chat, *choice);
  }
  if (const auto parallel = fields.flag("parallel_tool_calls")) chat.parallel_tool_calls = *parallel;
  set_response_format(chat, fields);
  check_tool_choice(chat);
  if (const json* const arguments = fields.object("chat_template_kwargs")) {
    for (const auto& [name, value] : arguments->items()) {
      if (name == "enable_thinking") {
        const auto thinking = Fields(*arguments, "chat_template_kwargs.").flag("enable_thinking");
        if (thinking) chat.thinking = *thinking;
      } else {
        chat.template_arguments[name] = value.dump();
      }
    }
  }
  if (const auto format = fields.text("reasoning_format")) {
    if (*format != "none" && *format != "auto" && *format != "deepseek" && *format != "deepseek-legacy") {
      refuse_field("reasoning_format", "none, auto, deepseek or deepseek-legacy", *format);
    }
    chat.reasoning_apart = *format != "none";
  }
  return chat;
}

void go_on_with_last(ChatOptions& chat, const Fields& fields, const std::vector<Message>& messages) {
  const auto opens = fields.flag("add_generation_prompt"), goes_on = fields.flag("continue_final_message");
  const auto is_assistants = [&](std::size_t from_end) {
    return messages.size() >= from_end && messages[messages.size() - from_end].role == "assistant";
  };
  const bool can = is_assistants(1) && messages.back().tool_calls.empty();
  if (goes_on.value_or(false)) {
    if (opens.value_or(false)) refuse_field("continue_final_message", "false beside \"add_generation_prompt\"", true);
    if (!can) refuse_field("continue_final_message", "an assistant's message last", true);
  }
  if (can && is_assistants(2) && !opens.value_or(false)) {
    refuse_field("messages", "one message of the assistant's last, to go on with", "two");
  }
  chat.continue_last_message = can && goes_on.value_or(!opens.value_or(false));
  chat.add_generation_prompt = chat.continue_last_message || opens.value_or(true);
}

std::optional<SessionOptions> session_of(const Fields& fields, const ServeDefaults& defaults, bool conversation) {
  const json* const own = fields.object("lacake");
  if (!own) return {};
  const Fields ours(*own, "lacake.");
  for (const auto& entry : own->items()) {
    const std::string& name = entry.key();
    const bool known = name == "policy" || name == "kv_budget" || (conversation && name == "session");
    if (!known) {
      refuse_field("lacake." + name, conversation ? "policy, kv_budget or session" : "policy or kv_budget",
                   entry.value());
    }
  }
  const auto policy = ours.text("policy"), budget = ours.text("kv_budget");
  if (!policy && !budget) return {};
  SessionOptions session = defaults.session;
  if (policy) session.policy = PolicySpec::parse(*policy);
  if (budget) session.budget = Budget::parse(*budget);
  return session;
}

}  // namespace lacake::cli
