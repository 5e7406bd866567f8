// POST /v1/responses, OpenAI's newer API. Nothing is kept under a response's id: a client sends the whole conversation.

#include <fmt/format.h>

#include <ctime>

#include "lacake/error.h"
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

class ResponseClient final : public RequestClient, ChatAnswering {
 public:
  ResponseClient(Api& api, std::shared_ptr<HttpExchange> exchange, bool stream, const ChatCall& call,
                 const Fields& fields)
      : ChatAnswering(api, std::move(exchange), stream, call.chat(), call.request.asking.chat),
        news_(fields),
        pieces_(call.parses) {
    for (const char* name : {"instructions", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p",
                             "metadata", "max_output_tokens"}) {
      const json* const value = fields.find(name);
      if (value) echoed_[name] = *value;
    }
  }

  void started(const ServedCache& cache) noexcept override {
    underway_.started(cache);
    if (!stream_) return;
    begin();
    if (news_.progress) tell_progress(0);
  }
  void progress(std::size_t done, std::size_t) noexcept override {
    if (stream_ && news_.progress) {
      tell_progress(done);
    } else if (sign_is_due()) {
      exchange_->write(": reading\n\n");
    }
  }
  void written(std::size_t, std::string_view text, const Generation& generation) noexcept override {
    count_token();
    underway_.written(generation.answer().tokens.size());
    if (stream_) send(pieces_.next(text, generation));
  }
  void ended(const Served& served) noexcept override {
    answered(served);
    const Answer& answer = served.answers[0];
    send(pieces_.rest(answer));
    close();
    json whole = response(answer.finish == Finish::kLength ? "incomplete" : "completed");
    if (answer.finish == Finish::kLength) whole["incomplete_details"] = {{"reason", "max_output_tokens"}};
    const std::size_t n_written = answer.tokens.size();
    whole["usage"] = {{"input_tokens", served.cache.n_prompt},
                      {"input_tokens_details", {{"cached_tokens", served.cache.n_held}}},
                      {"output_tokens", n_written},
                      {"output_tokens_details", {{"reasoning_tokens", 0}}},
                      {"total_tokens", served.cache.n_prompt + n_written}};
    whole["lacake"] = cache_facts(served.cache);
    if (!stream_) return send_json(*exchange_, whole);
    event(answer.finish == Finish::kLength ? "response.incomplete" : "response.completed",
          {{"response", std::move(whole)}, {"timings", timings_of(served)}});
    exchange_->end();
  }
  void failed(const Error& error) noexcept override {
    const ApiError told = this->told(error);
    const bool context = told.body["error"]["code"] == "context_length_exceeded";
    // A stream's client knows an overflow by its event alone.
    if (stream_ && (begun_ || context)) {
      if (!begun_) begin();
      json whole = response("failed");
      whole["error"] = {{"code", context ? json("context_length_exceeded") : json("server_error")},
                        {"message", told.body["error"]["message"]}};
      event("response.failed", {{"response", std::move(whole)}});
      exchange_->end();
      return;
    }
    exchange_->send(told.status, "application/json", dumped(told.body), told.headers);
  }

 private:
  enum class Item { kNone, kReasoning, kMessage, kCall };

  void begin() {
    begun_ = true;
    exchange_->begin(200, "text/event-stream");
    event("response.created", {{"response", response("in_progress")}});
    event("response.in_progress", {{"response", response("in_progress")}});
  }

  void tell_progress(std::size_t done) {
    json progress = underway_.progress(done);
    if (progress.is_null()) return;
    event("response.in_progress", {{"response", response("in_progress")}, {"prompt_progress", std::move(progress)}});
  }

  json response(const char* status) const {
    json whole = {{"id", id_},
                  {"object", "response"},
                  {"created_at", created_},
                  {"status", status},
                  {"model", api_.options().alias},
                  {"output", output_},
                  {"error", nullptr},
                  {"incomplete_details", nullptr},
                  {"instructions", nullptr},
                  {"metadata", json::object()},
                  {"parallel_tool_calls", chat_.parallel_tool_calls},
                  {"tool_choice", "auto"},
                  {"tools", json::array()},
                  {"previous_response_id", nullptr},
                  {"usage", nullptr}};
    whole.update(echoed_);
    return whole;
  }

  void event(const char* type, json data) {
    data["type"] = type;
    data["sequence_number"] = n_events_++;
    exchange_->write(fmt::format("event: {}\ndata: {}\n\n", type, dumped(data)));
  }
  void item_event(const char* type, json data) {
    if (!stream_) return;
    data["output_index"] = output_.size();
    data["item_id"] = item_["id"];
    event(type, std::move(data));
  }
  void delta_event(const char* type, json data) {
    if (news_.timings) data["timings"] = underway_.timings();
    item_event(type, std::move(data));
  }

  void open(Item kind, json item) {
    close();
    kind_ = kind;
    item_ = std::move(item);
    text_.clear();
    if (!stream_) return;
    event("response.output_item.added", {{"output_index", output_.size()}, {"item", item_}});
    if (kind_ == Item::kMessage) item_event("response.content_part.added", {{"content_index", 0}, {"part", part("")}});
  }

  static json part(const std::string& text) {
    return {{"type", "output_text"}, {"text", text}, {"annotations", json::array()}};
  }

  void close() {
    if (kind_ == Item::kNone) return;
    item_["status"] = "completed";
    if (kind_ == Item::kMessage) {
      item_["content"] = json::array({part(text_)});
      item_event("response.output_text.done", {{"content_index", 0}, {"text", text_}, {"logprobs", json::array()}});
      item_event("response.content_part.done", {{"content_index", 0}, {"part", part(text_)}});
    } else if (kind_ == Item::kReasoning) {
      item_["content"] = json::array({{{"type", "reasoning_text"}, {"text", text_}}});
      item_event("response.reasoning_text.done", {{"content_index", 0}, {"text", text_}});
    } else {
      item_["arguments"] = text_;
      item_event("response.function_call_arguments.done", {{"arguments", text_}, {"name", item_["name"]}});
    }
    if (stream_) event("response.output_item.done", {{"output_index", output_.size()}, {"item", item_}});
    output_.push_back(std::move(item_));
    kind_ = Item::kNone;
  }

  void send(const AnswerPiece& piece) {
    if (!piece.reasoning.empty()) {
      if (kind_ != Item::kReasoning) {
        open(Item::kReasoning,
             {{"type", "reasoning"}, {"id", random_id("rs_")}, {"summary", json::array()}, {"content", json::array()}});
      }
      text_ += piece.reasoning;
      delta_event("response.reasoning_text.delta", {{"content_index", 0}, {"delta", piece.reasoning}});
    }
    if (!piece.content.empty()) {
      if (kind_ != Item::kMessage) {
        open(Item::kMessage, {{"type", "message"},
                              {"id", random_id("msg_")},
                              {"role", "assistant"},
                              {"status", "in_progress"},
                              {"content", json::array()}});
      }
      text_ += piece.content;
      delta_event("response.output_text.delta",
                  {{"content_index", 0}, {"delta", piece.content}, {"logprobs", json::array()}});
    }
    for (const CallPiece& call : piece.calls) {
      if (call.begins) {
        open(Item::kCall, {{"type", "function_call"},
                           {"id", random_id("fc_")},
                           {"call_id", call.id},
                           {"name", call.name},
                           {"arguments", ""},
                           {"status", "in_progress"}});
      }
      text_ += call.arguments;
      if (!call.arguments.empty()) delta_event("response.function_call_arguments.delta", {{"delta", call.arguments}});
    }
  }

  const News news_;
  Underway underway_;
  AnswerPieces pieces_;
  json echoed_ = json::object();
  const std::string id_ = random_id("resp_");
  const std::time_t created_ = std::time(nullptr);
  json output_ = json::array();  // items that are whole
  Item kind_ = Item::kNone;      // of the one that is being written
  json item_;
  std::string text_;
  bool begun_ = false;
  std::size_t n_events_ = 0;
};

// What the service would know by a name, and nothing here does.
void refuse_what_is_kept(const Fields& fields) {
  constexpr const char* kWhole = "none, but the whole conversation as `input`: ";
  if (const auto previous = fields.text("previous_response_id")) {
    refuse_field("previous_response_id", std::string(kWhole) + "responses are not kept", *previous);
  }
  if (const json* const conversation = fields.find("conversation")) {
    refuse_field("conversation", std::string(kWhole) + "conversations are not kept under an id", *conversation);
  }
  // A text by this name is a field of other APIs.
  if (const json* const prompt = fields.find("prompt"); prompt && prompt->is_object()) {
    refuse_field("prompt", std::string(kWhole) + "prompts are not kept", *prompt);
  }
}

// An error about messages by the name that they have here.
template <class Do>
auto naming_input(const Do& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.fields().subject != "messages") throw;
    Error::Fields fields = error.fields();
    fields.subject = "input";
    throw Error(std::move(fields));
  }
}

}  // namespace

void responses(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  refuse_what_is_kept(fields);
  Asking asking{.generation = generation_of(fields, api.options().defaults),
                .chat = chat_options_of_responses(fields, api.options().defaults)};
  if (const auto most = fields.whole("max_output_tokens", 1, INT32_MAX)) {
    (void)length_of(fields, {"n_predict", "max_tokens", "max_completion_tokens", "max_output_tokens"});
    asking.generation.limits.answer = (std::size_t)*most;
  }
  std::vector<Message> messages = messages_of_responses(fields);
  ChatCall call =
      naming_input([&] { return ChatCall(api, exchange->request(), fields, std::move(messages), std::move(asking)); });
  auto client = std::make_shared<ResponseClient>(api, exchange, fields.flag("stream").value_or(false), call, fields);
  api.submit(exchange, std::move(call.request), std::move(client));
}

void count_response_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  refuse_what_is_kept(fields);
  const std::vector<Message> messages = messages_of_responses(fields);
  const ChatOptions chat = chat_options_of_responses(fields, api.options().defaults);
  naming_input([&] { count_tokens(api, *exchange, fields, messages, chat); });
}

}  // namespace lacake::cli
