// POST /v1/messages and /v1/messages/count_tokens, as Anthropic's API has them.

#include "lacake/error.h"
#include "serve/answer_facts.h"
#include "serve/answer_pieces.h"
#include "serve/answering.h"
#include "serve/api.h"
#include "serve/asking.h"
#include "serve/random_id.h"
#include "serve/sending.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

// `thinking` is a wish: clients have it for all models alike. Where the template can do but one of both, it does that,
// and the answer shows which.
void wish_thinking(const Model& model, const Fields& fields, const std::vector<Message>& messages, Asking& asking) {
  constexpr const char* kTypes = "enabled, disabled, adaptive or between_tools";
  const json* const thinking = fields.find("thinking");
  if (!thinking) return;
  // Not by "thinking" alone: an error about that means a field of OpenAI's clients.
  if (!thinking->is_object()) refuse_field("thinking.type", kTypes, *thinking);
  const Fields own(*thinking, "thinking.");
  const auto type = own.text("type");
  const bool left_to_model = type == "adaptive" || type == "between_tools";
  if (type != "enabled" && type != "disabled" && !left_to_model) {
    refuse_field("thinking.type", kTypes, type ? json(*type) : json());
  }
  if (left_to_model || !model.has_chat_template()) return;
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
                .chat = chat_options_of_anthropic(fields, api.options().defaults)};
  if (fields.find("stop_sequences")) {
    asking.generation.stop = fields.texts("stop_sequences");
    for (const std::string& one : asking.generation.stop) {
      if (one.empty()) refuse_field("stop_sequences", "texts that are not empty", one);
    }
  }
  if (!fields.whole("max_tokens", 1, INT32_MAX)) refuse_field("max_tokens", "a whole number", json());
  std::vector<Message> messages = messages_of_anthropic(fields);
  wish_thinking(api.model(), fields, messages, asking);
  ChatCall call(api, exchange->request(), fields, std::move(messages), std::move(asking));
  auto client = std::make_shared<MessageClient>(api, exchange, fields.flag("stream").value_or(false), call);
  api.submit(exchange, std::move(call.request), std::move(client));
}

void anthropic_count_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  const std::vector<Message> messages = messages_of_anthropic(fields);
  Asking asking;
  // Not as its initializer: where that throws, GCC 12 destroys the members before it, which it has not made.
  asking.chat = chat_options_of_anthropic(fields, api.options().defaults);
  wish_thinking(api.model(), fields, messages, asking);
  count_tokens(api, *exchange, fields, messages, asking.chat);
}

}  // namespace lacake::cli
