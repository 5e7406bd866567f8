#pragma once

// What clients can ask for over HTTP: routes, keys, and what all of them share. One file for each kind of client.

#include <atomic>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/stopwatch.h"
#include "base/worker.h"
#include "lacake/model.h"
#include "lacake/scheduler.h"
#include "serve/asking.h"
#include "serve/http.h"
#include "serve/metrics.h"
#include "serve/random_id.h"
#include "serve/underway.h"

namespace lacake::cli {

struct ApiOptions {
  ServeDefaults defaults;
  std::string alias;              // the model's name for clients
  std::string version;            // of the program
  std::vector<std::string> keys;  // one of them is needed, if there are any
  std::string admin_key;          // for POST /drain; "": nobody may
  bool local = false;             // it listens to this machine alone
  std::string cors;               // the origin that browsers may come from; "": none but this server
  bool page = true;               // in the browser
  std::size_t n_ctx = 0;          // most tokens of a conversation
  std::size_t n_parallel = 0;     // conversations that fit in memory
  bool logs_answers = false;      // their texts are for the log too
  bool slots = true;              // whether GET /slots answers
  bool verbose = false;           // whether chats show their prompts, where a request does not say
  nlohmann::json settings;        // of the server, as GET /props shows them
};

// Who may ask, and what for. Handlers run on the HTTP server's thread; answers come from the scheduler's.
class Api {
 public:
  // Borrows model and scheduler.
  Api(const Model& model, Scheduler& scheduler, ApiOptions options);

  void handle(const std::shared_ptr<HttpExchange>& exchange);
  // From here on GET /ready says no.
  void drain() { draining_ = true; }

  // --- for the handlers ------------------------------------------------------------------------------------------

  const Model& model() const { return model_; }
  Scheduler& scheduler() { return scheduler_; }
  const ApiOptions& options() const { return options_; }
  ServerMetrics& metrics() { return metrics_; }
  Worker& worker() { return worker_; }
  // A body's request to the scheduler; cancelled when the client goes. Throws what Scheduler::submit throws.
  void submit(const std::shared_ptr<HttpExchange>& exchange, Request request, std::shared_ptr<RequestClient> client);
  std::string token_text(Token token) const { return model_.piece(token, true); }  // bytes
  std::vector<unsigned char> token_bytes(Token token) const;
  // A token that a client names. Throws Error(kUsage) naming the field.
  Token token_of(const nlohmann::json& value, const char* field) const;
  // A list of {"id", "token", "logprob", "bytes", "top_logprobs"}.
  nlohmann::json probabilities(std::span<const LogProbabilities> all) const;
  // The key of a conversation that a client sends, in its body or headers.
  static std::string conversation_key(const HttpRequest& request, const Fields& fields);
  std::string owner_of(const HttpRequest& request) const;
  bool is_operator(const HttpRequest& request) const;

  // Whether it has a key, if one is needed.
  bool is_allowed(const HttpRequest& request) const;

 private:
  bool may_come_from(const HttpRequest& request) const;
  bool may_be_called(const std::string& host) const;

  const Model& model_;
  Scheduler& scheduler_;
  const ApiOptions options_;
  ServerMetrics metrics_;
  const std::time_t started_ = std::time(nullptr);
  std::atomic<bool> draining_ = false;
  Worker worker_;  // borrows what stands above
};

// An error as a client reads it: {"error": {"code", "message", "type", ...}}.
struct ApiError {
  int status = 500;
  nlohmann::json body;
  HttpExchange::Headers headers = {};
};
ApiError api_error(const Error& error);
ApiError api_error(int status, const std::string& type, const std::string& message);
void send_error(HttpExchange& exchange, const ApiError& error);
// The same in Anthropic's form.
nlohmann::json anthropic_error(const ApiError& error);

// One line of JSON, whatever bytes are in its texts.
std::string dumped(const nlohmann::json& json);
void send_json(HttpExchange& exchange, const nlohmann::json& json, int status = 200);

// --- what an answer grew by ----------------------------------------------------------------------------------------

struct CallPiece {
  std::size_t index = 0;
  bool begins = false;  // the first piece of the call, with name and id
  std::string id, name, arguments;
};
struct AnswerPiece {
  std::string content, reasoning;
  std::vector<CallPiece> calls;
  bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
};

// Content, reasoning and calls of one answer as they come.
class AnswerPieces {
 public:
  // `parses`: whether the answer may be anything but content.
  explicit AnswerPieces(bool parses) : parses_(parses) {}
  AnswerPiece next(std::string_view text, const Generation& generation);
  // What is left when it has ended.
  AnswerPiece rest(const Answer& answer);
  // The ids of calls, made up where the model gives none.
  std::string call_id(const ToolCall& call, std::size_t index);

 private:
  AnswerPiece grown(const ParsedAnswer& parsed, bool whole);

  bool parses_;
  std::size_t n_content_ = 0, n_reasoning_ = 0;
  struct Call {
    std::string id;
    std::size_t n_arguments = 0;
  };
  std::vector<Call> calls_;
};

// What every answer says of the cache: {"policy", "kv_budget", ...}.
nlohmann::json cache_facts(const ServedCache& cache);
// What GET /v1/sessions and /slots say of a conversation in memory.
nlohmann::json session_json(const SchedulerStatus::Conversation& conversation);
nlohmann::json usage_of(const Served& served);
// Defaults of the server, or what a request came to, as llama-server shows them.
nlohmann::json generation_settings(const Model& model, const GenerationOptions& generation);
// "stop", "length", "tool_calls".
std::string finish_reason(const Answer& answer);

// --- what clients of all APIs do -------------------------------------------------------------------------------------

// Tells times and errors of one request. Its functions are called as those of a RequestClient.
class Answering {
 protected:
  Answering(Api& api, std::shared_ptr<HttpExchange> exchange, bool stream)
      : api_(api), exchange_(std::move(exchange)), stream_(stream) {}
  virtual ~Answering() = default;
  // In tokens, for an error about it.
  virtual std::size_t prompt_length() const = 0;

  void count_token();
  // It has all of its answers: counted, and noted for the log.
  void answered(std::span<const Served> all);
  void answered(const Served& served) { answered(std::span(&served, 1)); }
  // As the client reads it, and counted. A prompt that is too long with its numbers.
  ApiError told(const Error& error) const;
  // While a prompt is read: nothing was sent for seconds, so that something between here and there may give up.
  bool sign_is_due();

  Api& api_;
  const std::shared_ptr<HttpExchange> exchange_;
  const bool stream_;

 private:
  Stopwatch since_start_, last_token_, last_sign_;
  bool any_token_ = false;
};

class ChatAnswering : public Answering {
 protected:
  ChatAnswering(Api& api, std::shared_ptr<HttpExchange> exchange, bool stream, const ChatRequest& request,
                ChatOptions chat)
      : Answering(api, std::move(exchange), stream), messages_(request.messages), chat_(std::move(chat)) {
    if (!request.key.empty()) exchange_->note({{"conversation", request.key}});
  }
  std::size_t prompt_length() const override;

  const std::vector<Message> messages_;
  const ChatOptions chat_;
};

// A chat on its way to the scheduler. The template renders it here, before it waits, so that what it refuses is said at
// once. Throws Error(kUsage) naming what cannot be used.
struct ChatCall {
  ChatCall(const Api& api, const HttpRequest& http, const Fields& fields, std::vector<Message> messages, Asking asking);
  const ChatRequest& chat() const { return std::get<ChatRequest>(request.what); }

  Request request;
  bool parses = false;   // whether the answer may be anything but content
  nlohmann::json shown;  // `__verbose` of the answer, where it is wished
};

// Answers {"input_tokens"} of a chat that is not asked. Throws as ChatCall.
void count_tokens(const Api& api, HttpExchange& exchange, const Fields& fields, const std::vector<Message>& messages,
                  ChatOptions chat);

// --- handlers --------------------------------------------------------------------------------------------------------

void chat_completions(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void count_chat_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void completions(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void native_completion(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void responses(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void count_response_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void anthropic_messages(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void anthropic_count_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void tokenize(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void detokenize(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void apply_template(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void tokenizer_info(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void list_models(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void props(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void slots(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void begin_drain(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void list_sessions(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void restore_session(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void fork_session(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void session_snapshot(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void session_cache(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void drop_session(Api& api, const std::shared_ptr<HttpExchange>& exchange);

}  // namespace lacake::cli
