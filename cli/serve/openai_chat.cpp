// POST /v1/chat/completions, as OpenAI's API and llama-server have it.

#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "base/stopwatch.h"
#include "lacake/error.h"
#include "serve/api.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

struct ChatWish {
  bool stream = false;
  bool usage = false;     // at the end of a stream
  bool progress = false;  // of reading
  bool probabilities = false;
  std::size_t n_best = 0;
};

json probability_json(const Api& api, const TokenProbability& p) {
  return {
      {"id", p.token}, {"token", api.token_text(p.token)}, {"logprob", p.logprob}, {"bytes", api.token_bytes(p.token)}};
}

json probabilities_json(const Api& api, std::span<const LogProbabilities> all) {
  json content = json::array();
  for (const LogProbabilities& one : all) {
    json token = probability_json(api, one.token);
    token["top_logprobs"] = json::array();
    for (const TokenProbability& best : one.best) token["top_logprobs"].push_back(probability_json(api, best));
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}};
}

class ChatClient final : public RequestClient {
 public:
  ChatClient(Api& api, std::shared_ptr<HttpExchange> exchange, const ChatWish& wish, std::size_t n_answers, bool parses,
             std::vector<Message> messages, ChatOptions chat)
      : api_(api),
        exchange_(std::move(exchange)),
        wish_(wish),
        pieces_(n_answers, AnswerPieces(parses)),
        n_probabilities_(n_answers),
        messages_(std::move(messages)),
        chat_(std::move(chat)) {}

  void started(const ServedCache& cache) noexcept override {
    if (!wish_.stream) return;
    exchange_->begin(200, "text/event-stream");
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      event(chunk(i, {{"role", "assistant"}, {"content", nullptr}}, nullptr));
    }
    (void)cache;
  }

  void progress(std::size_t done, std::size_t total) noexcept override {
    if (!wish_.stream) return;
    if (wish_.progress) {
      json news = chunk(0, json::object(), nullptr);
      news["prompt_progress"] = {{"total", total}, {"processed", done}};
      event(news);
    } else if (last_sign_.ms() > kSignMs) {
      exchange_->write(": reading\n\n");  // so that nothing between here and the client takes it for dead
      last_sign_ = Stopwatch();
    }
  }

  void written(std::size_t answer, std::string_view text, const Generation& generation) noexcept override {
    count_token();
    if (!wish_.stream) return;
    const AnswerPiece piece = pieces_[answer].next(text, generation);
    json probabilities;
    if (wish_.probabilities) {
      const auto& all = generation.answer().log_probabilities;
      std::size_t& n = n_probabilities_[answer];
      if (all.size() > n && !piece.empty()) {
        probabilities = probabilities_json(api_, std::span(all).subspan(n));
        n = all.size();
      }
    }
    send(answer, piece, probabilities);
  }

  void ended(const Served& served) noexcept override {
    api_.metrics().request(200);
    if (!wish_.stream) {
      json choices = json::array();
      for (std::size_t i = 0; i < served.answers.size(); ++i) choices.push_back(choice(i, served.answers[i]));
      json body = frame("chat.completion", std::move(choices));
      body["usage"] = usage_of(served);
      body["timings"] = timings_of(served);
      body["lacake"] = cache_facts(served.cache);
      return send_json(*exchange_, body);
    }
    for (std::size_t i = 0; i < served.answers.size(); ++i) {
      const Answer& answer = served.answers[i];
      json probabilities;
      const auto& all = answer.log_probabilities;
      if (wish_.probabilities && all.size() > n_probabilities_[i]) {
        probabilities = probabilities_json(api_, std::span(all).subspan(n_probabilities_[i]));
      }
      send(i, pieces_[i].rest(answer), probabilities);
      json last = chunk(i, json::object(), finish_reason(answer));
      if (i + 1 == served.answers.size()) {
        last["timings"] = timings_of(served);
        last["lacake"] = cache_facts(served.cache);
      }
      event(last);
    }
    if (wish_.usage) {
      json usage = frame("chat.completion.chunk", json::array());
      usage["usage"] = usage_of(served);
      event(usage);
    }
    exchange_->write("data: [DONE]\n\n");
    exchange_->end();
  }

  void failed(const Error& error) noexcept override {
    const ApiError told = api_error(in_tokens(error));
    api_.metrics().request(told.status);
    // Where the stream has begun, send() does nothing.
    exchange_->send(told.status, "application/json", dumped(told.body), told.headers);
    exchange_->write("data: " + dumped(told.body) + "\n\n");
    exchange_->end();
  }

 private:
  static constexpr double kSignMs = 5000;

  // Says how long the conversation is that does not fit.
  Error in_tokens(const Error& error) const {
    if (!is_too_long(error)) return error;
    try {
      return context_error(api_.model().chat(messages_, chat_).tokens.size(), api_.options().n_ctx);
    } catch (const Error&) {
      return error;
    }
  }

  void count_token() {
    if (!any_token_) {
      api_.metrics().first_token(since_start_.ms() / 1e3);
    } else {
      api_.metrics().between_tokens(last_token_.ms() / 1e3);
    }
    any_token_ = true;
    last_token_ = Stopwatch();
  }

  json frame(const char* object, json choices) const {
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", api_.options().alias},
            {"system_fingerprint", "b-lacake-" + api_.options().version},
            {"choices", std::move(choices)}};
  }
  json chunk(std::size_t answer, json delta, json finish) const {
    return frame("chat.completion.chunk",
                 json::array({{{"index", answer}, {"delta", std::move(delta)}, {"finish_reason", std::move(finish)}}}));
  }
  void event(const json& data) { exchange_->write("data: " + dumped(data) + "\n\n"); }

  void send(std::size_t answer, const AnswerPiece& piece, const json& probabilities) {
    json delta = json::object();
    if (!piece.reasoning.empty()) delta["reasoning_content"] = piece.reasoning;
    if (!piece.content.empty()) delta["content"] = piece.content;
    for (const CallPiece& call : piece.calls) {
      json one = {{"index", call.index}, {"function", {{"arguments", call.arguments}}}};
      if (call.begins) one["id"] = call.id, one["type"] = "function", one["function"]["name"] = call.name;
      delta["tool_calls"].push_back(std::move(one));
    }
    if (delta.empty() && probabilities.is_null()) return;
    json news = chunk(answer, std::move(delta), nullptr);
    if (!probabilities.is_null()) news["choices"][0]["logprobs"] = probabilities;
    event(news);
  }

  json choice(std::size_t i, const Answer& answer) {
    const ParsedAnswer& parsed = answer.parsed;
    json message = {{"role", "assistant"}, {"content", parsed.content}};
    if (parsed.content.empty() && !parsed.tool_calls.empty()) message["content"] = nullptr;
    if (!parsed.reasoning.empty()) message["reasoning_content"] = parsed.reasoning;
    for (std::size_t k = 0; k < parsed.tool_calls.size(); ++k) {
      const ToolCall& call = parsed.tool_calls[k];
      message["tool_calls"].push_back({{"id", pieces_[i].call_id(call, k)},
                                       {"type", "function"},
                                       {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
    json whole = {{"index", i}, {"message", std::move(message)}, {"finish_reason", finish_reason(answer)}};
    if (wish_.probabilities) whole["logprobs"] = probabilities_json(api_, answer.log_probabilities);
    return whole;
  }

  Api& api_;
  const std::shared_ptr<HttpExchange> exchange_;
  const ChatWish wish_;
  const std::string id_ = random_id("chatcmpl-");
  const std::time_t created_ = std::time(nullptr);
  std::vector<AnswerPieces> pieces_;
  std::vector<std::size_t> n_probabilities_;  // that were sent
  const std::vector<Message> messages_;
  const ChatOptions chat_;
  Stopwatch since_start_, last_token_, last_sign_;
  bool any_token_ = false;
};

ChatWish wish_of(const Fields& fields) {
  ChatWish wish{.stream = fields.flag("stream").value_or(false),
                .progress = fields.flag("return_progress").value_or(false),
                .probabilities = fields.flag("logprobs").value_or(false)};
  if (const json* const options = fields.object("stream_options")) {
    wish.usage = Fields(*options, "stream_options.").flag("include_usage").value_or(false);
  }
  const auto n_best = fields.whole("top_logprobs", 0, 1000);
  if (n_best && !wish.probabilities) refuse_field("top_logprobs", "\"logprobs\": true beside it", *n_best);
  wish.n_best = (std::size_t)n_best.value_or(0);
  return wish;
}

}  // namespace

void chat_completions(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  if (!api.model().has_chat_template()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "messages",
                 .expected = "a model with a chat template (--chat-template)",
                 .found = "one without"});
  }
  const ChatWish wish = wish_of(fields);
  const json* const given = fields.find("messages");
  ChatRequest chat{.messages = openai_messages(given ? *given : json()),
                   .key = Api::conversation_key(exchange->request(), fields),
                   .owner = api.owner_of(exchange->request())};
  Request request;
  request.asking = {.generation = generation_of(fields, api.options().defaults),
                    .chat = openai_chat_options(fields, api.options().defaults),
                    .n_answers = (std::size_t)fields.whole("n", 1, 64).value_or(1)};
  if (wish.probabilities) request.asking.generation.log_probabilities = wish.n_best;
  request.session = session_of(fields, api.options().defaults);
  // Here, before it waits: what the template refuses is said at once.
  const ChatPrompt prompt = api.model().render_chat(chat.messages, request.asking.chat);
  const bool parses = prompt.format.has_reasoning() || prompt.format.has_tool_calls();
  auto client = std::make_shared<ChatClient>(api, exchange, wish, request.asking.n_answers, parses, chat.messages,
                                             request.asking.chat);
  request.what = std::move(chat);
  api.submit(exchange, std::move(request), std::move(client));
}

}  // namespace lacake::cli
