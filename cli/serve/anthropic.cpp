// POST /v1/messages and /v1/messages/count_tokens, as Anthropic's API has them.

#include <fmt/format.h>

#include "lacake/error.h"
#include "serve/api.h"

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
  for (const json& part : system) {
    const std::string one = text_of_content(json::array({part}), "system");
    if (!text.empty() && !one.empty()) text += "\n";
    text += &part == &system.front() ? without_changing_token(one) : one;
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
  for (const json& part : *content) {
    if (!part.is_object()) refuse_field(where + ".content", "parts that are objects", part);
    const Fields own(part, where + ".content.");
    const std::string type = own.text("type").value_or("");
    if (type == "text") {
      message.content += own.text("text").value_or("");
      has_own = true;
    } else if (type == "thinking") {
      message.reasoning += own.text("thinking").value_or("");
      has_own = true;
    } else if (type == "redacted_thinking") {
      has_own = true;
    } else if (type == "tool_use") {
      const json* const input = own.find("input");
      message.tool_calls.push_back({.name = own.text("name").value_or(""),
                                    .arguments = input ? input->dump() : "{}",
                                    .id = own.text("id").value_or("")});
      has_own = true;
    } else if (type == "tool_result") {
      const json* const result = own.find("content");
      all.push_back({.role = "tool",
                     .content = result ? text_of_content(*result, where + ".content.content") : "",
                     .tool_call_id = own.text("tool_use_id").value_or("")});
    } else {
      refuse_field(where + ".content.type", "text, thinking, tool_use or tool_result", type);
    }
  }
  if (has_own) all.push_back(std::move(message));
}

std::vector<Message> messages_of(const Fields& fields) {
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

ChatOptions chat_options_of(const Fields& fields, const ServeDefaults& defaults) {
  ChatOptions chat = defaults.chat;
  if (const json* const tools = fields.list("tools")) {
    for (std::size_t i = 0; i < tools->size(); ++i) {
      const std::string where = fmt::format("tools[{}]", i);
      if (!(*tools)[i].is_object()) refuse_field(where, "an object", (*tools)[i]);
      const Fields own((*tools)[i], where + ".");
      // Tools that the service itself runs have a type and no schema.
      if (own.text("type").value_or("custom") != "custom") continue;
      const json* const schema = own.object("input_schema");
      Tool tool{.name = own.text("name").value_or(""), .description = own.text("description").value_or("")};
      if (tool.name.empty()) refuse_field(where + ".name", "a name", "");
      if (schema) tool.parameters = schema->dump();
      chat.tools.push_back(std::move(tool));
    }
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
  return chat;
}

// `thinking` is a wish: clients have it for all models alike. Where the template can do but one of both, it does that,
// and the answer shows which.
void wish_thinking(const Model& model, const Fields& fields, const std::vector<Message>& messages, Asking& asking) {
  const json* const thinking = fields.object("thinking");
  if (!thinking || !model.has_chat_template()) return;
  const Fields own(*thinking, "thinking.");
  const std::string type = own.text("type").value_or("");
  if (type != "enabled" && type != "disabled") return;
  const auto budget = own.whole("budget_tokens", 0, INT32_MAX);
  ChatOptions wished = asking.chat;
  wished.thinking = type == "enabled";
  try {
    (void)model.render_chat(messages, wished);
  } catch (const Error& error) {
    if (error.fields().subject == "thinking") return;
    throw;
  }
  asking.chat = std::move(wished);
  if (budget && *asking.chat.thinking) asking.generation.sampling.reasoning_budget = (std::int32_t)*budget;
}

std::string stop_reason(const Answer& answer) {
  if (answer.finish == Finish::kLength) return "max_tokens";
  if (!answer.parsed.tool_calls.empty()) return "tool_use";
  return answer.finish == Finish::kStop ? "stop_sequence" : "end_turn";
}

json usage_json(const ServedCache& cache, std::size_t n_written) {
  return {{"input_tokens", cache.n_prompt - std::min(cache.n_held, cache.n_prompt)},
          {"cache_read_input_tokens", cache.n_held},
          {"cache_creation_input_tokens", 0},
          {"output_tokens", n_written}};
}

json parsed_json(const std::string& arguments) {
  const json parsed = json::parse(arguments, nullptr, false);
  return parsed.is_object() ? parsed : json::object();
}

class MessageClient final : public RequestClient, ChatAnswering {
 public:
  MessageClient(Api& api, std::shared_ptr<HttpExchange> exchange, bool stream, const ChatCall& call)
      : ChatAnswering(api, std::move(exchange), stream, call.chat(), call.request.asking.chat), pieces_(call.parses) {}

  void started(const ServedCache& cache) noexcept override {
    if (!stream_) return;
    exchange_->begin(200, "text/event-stream");
    json message = frame();
    message["content"] = json::array();
    message["stop_reason"] = nullptr;
    message["stop_sequence"] = nullptr;
    message["usage"] = usage_json(cache, 0);
    event({{"type", "message_start"}, {"message", std::move(message)}});
  }

  void progress(std::size_t, std::size_t) noexcept override {
    if (sign_is_due()) event({{"type", "ping"}});
  }

  void written(std::size_t, std::string_view text, const Generation& generation) noexcept override {
    count_token();
    if (stream_) send(pieces_.next(text, generation));
  }

  void ended(const Served& served) noexcept override {
    answered(served);
    const Answer& answer = served.answers[0];
    const json usage = usage_json(served.cache, answer.tokens.size());
    const json stop = answer.finish == Finish::kStop ? json(answer.stop) : json();
    if (!stream_) {
      json message = frame();
      message["content"] = content_of(answer.parsed);
      message["stop_reason"] = stop_reason(answer);
      message["stop_sequence"] = stop;
      message["usage"] = usage;
      message["lacake"] = cache_facts(served.cache);
      return send_json(*exchange_, message);
    }
    send(pieces_.rest(answer));
    close();
    event({{"type", "message_delta"},
           {"delta", {{"stop_reason", stop_reason(answer)}, {"stop_sequence", stop}}},
           {"usage", usage},
           {"lacake", cache_facts(served.cache)}});
    event({{"type", "message_stop"}});
    exchange_->end();
  }

  void failed(const Error& error) noexcept override {
    const ApiError told = this->told(error);
    const json body = anthropic_error(told);
    exchange_->send(told.status, "application/json", dumped(body), told.headers);
    exchange_->write("event: error\ndata: " + dumped(body) + "\n\n");
    exchange_->end();
  }

 private:
  enum class Block { kNone, kThinking, kText, kTool };

  json frame() const {
    return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", api_.options().alias}};
  }
  void event(const json& data) {
    exchange_->write("event: " + data["type"].get<std::string>() + "\ndata: " + dumped(data) + "\n\n");
  }
  void delta(const json& delta) {
    event({{"type", "content_block_delta"}, {"index", n_blocks_ - 1}, {"delta", delta}});
  }
  void close() {
    if (block_ == Block::kNone) return;
    // A thought is signed by who may check it; nobody does here.
    if (block_ == Block::kThinking) delta({{"type", "signature_delta"}, {"signature", ""}});
    event({{"type", "content_block_stop"}, {"index", n_blocks_ - 1}});
    block_ = Block::kNone;
  }
  void open(Block block, const json& content) {
    close();
    block_ = block;
    event({{"type", "content_block_start"}, {"index", n_blocks_++}, {"content_block", content}});
  }
  void send(const AnswerPiece& piece) {
    if (!piece.reasoning.empty()) {
      if (block_ != Block::kThinking)
        open(Block::kThinking, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
      delta({{"type", "thinking_delta"}, {"thinking", piece.reasoning}});
    }
    if (!piece.content.empty()) {
      if (block_ != Block::kText) open(Block::kText, {{"type", "text"}, {"text", ""}});
      delta({{"type", "text_delta"}, {"text", piece.content}});
    }
    for (const CallPiece& call : piece.calls) {
      if (call.begins) {
        open(Block::kTool, {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", json::object()}});
      }
      if (!call.arguments.empty()) delta({{"type", "input_json_delta"}, {"partial_json", call.arguments}});
    }
  }
  json content_of(const ParsedAnswer& parsed) {
    json content = json::array();
    if (!parsed.reasoning.empty()) {
      content.push_back({{"type", "thinking"}, {"thinking", parsed.reasoning}, {"signature", ""}});
    }
    if (!parsed.content.empty() || parsed.tool_calls.empty()) {
      content.push_back({{"type", "text"}, {"text", parsed.content}});
    }
    for (std::size_t i = 0; i < parsed.tool_calls.size(); ++i) {
      const ToolCall& call = parsed.tool_calls[i];
      content.push_back({{"type", "tool_use"},
                         {"id", pieces_.call_id(call, i)},
                         {"name", call.name},
                         {"input", parsed_json(call.arguments)}});
    }
    return content;
  }

  AnswerPieces pieces_;
  const std::string id_ = random_id("msg_");
  Block block_ = Block::kNone;
  std::size_t n_blocks_ = 0;
};

}  // namespace

void anthropic_messages(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  Asking asking{.generation = generation_of(fields, api.options().defaults),
                .chat = chat_options_of(fields, api.options().defaults)};
  if (fields.find("stop_sequences")) asking.generation.stop = fields.texts("stop_sequences");
  if (!fields.whole("max_tokens", 1, INT32_MAX)) refuse_field("max_tokens", "a whole number", json());
  std::vector<Message> messages = messages_of(fields);
  wish_thinking(api.model(), fields, messages, asking);
  ChatCall call(api, exchange->request(), fields, std::move(messages), std::move(asking));
  auto client = std::make_shared<MessageClient>(api, exchange, fields.flag("stream").value_or(false), call);
  api.submit(exchange, std::move(call.request), std::move(client));
}

void anthropic_count_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  const std::vector<Message> messages = messages_of(fields);
  Asking asking{.chat = chat_options_of(fields, api.options().defaults)};
  wish_thinking(api.model(), fields, messages, asking);
  count_tokens(api, *exchange, fields, messages, asking.chat);
}

}  // namespace lacake::cli
