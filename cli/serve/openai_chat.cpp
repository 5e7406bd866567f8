// POST /v1/chat/completions, as OpenAI's API and llama-server have it.

#include <fmt/format.h>

#include <ctime>

#include "serve/answer_facts.h"
#include "serve/answer_pieces.h"
#include "serve/answering.h"
#include "serve/api.h"
#include "serve/asking.h"
#include "serve/random_id.h"
#include "serve/sending.h"
#include "serve/underway.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

struct ChatWish {
  bool stream = false;
  bool usage = false;  // at the end of a stream
  News news;
  bool probabilities = false;
  std::size_t n_best = 0;
};

class ChatClient final : public RequestClient, ChatAnswering {
 public:
  ChatClient(Api& api, std::shared_ptr<HttpExchange> exchange, const ChatWish& wish, const ChatCall& call)
      : ChatAnswering(api, std::move(exchange), wish.stream, call.chat(), call.request.asking.chat),
        wish_(wish),
        shown_(call.shown),
        pieces_(call.request.asking.n_answers, AnswerPieces(call.parses)),
        n_probabilities_(pieces_.size()) {}

  void started(const ServedCache& cache) noexcept override {
    underway_.started(cache);
    if (!stream_) return;
    exchange_->begin(200, "text/event-stream");
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      json first = chunk(i, {{"role", "assistant"}, {"content", nullptr}}, nullptr);
      // Whoever stops the answer gets no last event.
      if (!cache.id.empty()) first["lacake"] = {{"id", cache.id}};
      event(first);
    }
    if (wish_.news.progress) tell_progress(0);
  }

  void progress(std::size_t done, std::size_t) noexcept override {
    if (stream_ && wish_.news.progress) {
      tell_progress(done);
    } else if (sign_is_due()) {
      exchange_->write(": reading\n\n");
    }
  }

  void written(std::size_t answer, std::string_view text, const Generation& generation) noexcept override {
    count_token();
    if (!stream_) return;
    if (answer == 0) underway_.written(generation.answer().tokens.size());
    const AnswerPiece piece = pieces_[answer].next(text, generation);
    json probabilities;
    if (wish_.probabilities) {
      const auto& all = generation.answer().log_probabilities;
      std::size_t& n = n_probabilities_[answer];
      if (all.size() > n && !piece.empty()) {
        probabilities = probabilities_json(std::span(all).subspan(n));
        n = all.size();
      }
    }
    send(answer, piece, probabilities);
  }

  void ended(const Served& served) noexcept override {
    answered(served);
    if (!stream_) {
      json choices = json::array();
      for (std::size_t i = 0; i < served.answers.size(); ++i) choices.push_back(choice(i, served.answers[i]));
      json body = frame("chat.completion", std::move(choices));
      body["usage"] = usage_of(served);
      body["timings"] = timings_of(served);
      body["lacake"] = cache_facts(served.cache);
      if (!shown_.is_null()) body["__verbose"] = shown_;
      return send_json(*exchange_, body);
    }
    for (std::size_t i = 0; i < served.answers.size(); ++i) {
      const Answer& answer = served.answers[i];
      json probabilities;
      const auto& all = answer.log_probabilities;
      if (wish_.probabilities && all.size() > n_probabilities_[i]) {
        probabilities = probabilities_json(std::span(all).subspan(n_probabilities_[i]));
      }
      send(i, pieces_[i].rest(answer), probabilities);
      json last = chunk(i, json::object(), finish_reason(answer));
      if (i + 1 == served.answers.size()) {
        last["timings"] = timings_of(served);
        last["lacake"] = cache_facts(served.cache);
        if (!shown_.is_null()) last["__verbose"] = shown_;
      }
      event(last);
    }
    if (wish_.usage) {
      json usage = frame("chat.completion.chunk", json::array());
      usage["usage"] = usage_of(served);
      usage["timings"] = timings_of(served);
      event(usage);
    }
    exchange_->write("data: [DONE]\n\n");
    exchange_->end();
  }

  void failed(const Error& error) noexcept override {
    const ApiError told = this->told(error);
    // Where the stream has begun, send() does nothing.
    exchange_->send(told.status, "application/json", dumped(told.body), told.headers);
    exchange_->write("data: " + dumped(told.body) + "\n\n");
    exchange_->end();
  }

 private:
  json probabilities_json(std::span<const LogProbabilities> all) const {
    return {{"content", api_.probabilities(all)}};
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
  void tell_progress(std::size_t done) {
    json progress = underway_.progress(done);
    if (progress.is_null()) return;
    json news = chunk(0, json::object(), nullptr);
    news["prompt_progress"] = std::move(progress);
    if (wish_.news.timings) news["timings"] = underway_.timings();
    event(news);
  }

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
    if (wish_.news.timings) news["timings"] = underway_.timings();
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
    if (wish_.probabilities) whole["logprobs"] = probabilities_json(answer.log_probabilities);
    return whole;
  }

  const ChatWish wish_;
  const json shown_;
  Underway underway_;
  const std::string id_ = random_id("chatcmpl-");
  const std::time_t created_ = std::time(nullptr);
  std::vector<AnswerPieces> pieces_;
  std::vector<std::size_t> n_probabilities_;  // that were sent
};

ChatWish wish_of(const Fields& fields) {
  ChatWish wish{.stream = fields.flag("stream").value_or(false),
                .news = News(fields),
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
  const ChatWish wish = wish_of(fields);
  const json* const given = fields.find("messages");
  Asking asking{.generation = generation_of(fields, api.options().defaults),
                .chat = openai_chat_options(fields, api.options().defaults),
                .n_answers = (std::size_t)fields.whole("n", 1, 64).value_or(1)};
  if (wish.probabilities) asking.generation.log_probabilities = wish.n_best;
  ChatCall call(api, exchange->request(), fields, openai_messages(given ? *given : json()), std::move(asking));
  auto client = std::make_shared<ChatClient>(api, exchange, wish, call);
  api.submit(exchange, std::move(call.request), std::move(client));
}

void count_chat_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  const json* const given = fields.find("messages");
  count_tokens(api, *exchange, fields, openai_messages(given ? *given : json()),
               openai_chat_options(fields, api.options().defaults));
}

}  // namespace lacake::cli
