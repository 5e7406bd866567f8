#pragma once

// What clients can ask for over HTTP: routes, keys, and what all of them share. One file for each kind of client.

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/model.h"
#include "lacake/scheduler.h"
#include "serve/asking.h"
#include "serve/http.h"
#include "serve/metrics.h"

namespace lacake::cli {

struct ApiOptions {
  ServeDefaults defaults;
  std::string alias;              // the model's name for clients
  std::string version;            // of the program
  std::vector<std::string> keys;  // one of them is needed, if there are any
  std::string cors;               // the origin that browsers may come from; "": none but this server
  std::size_t n_ctx = 0;          // most tokens of a conversation
  std::size_t n_parallel = 0;     // conversations that fit in memory
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
  // A body's request to the scheduler; cancelled when the client goes. Throws what Scheduler::submit throws.
  void submit(const std::shared_ptr<HttpExchange>& exchange, Request request, std::shared_ptr<RequestClient> client);
  // The text of a token as JSON can hold it.
  std::string token_text(Token token) const;
  std::vector<unsigned char> token_bytes(Token token) const;
  // The key of a conversation that a client sends, in its body or headers.
  static std::string conversation_key(const HttpRequest& request, const Fields& fields);
  std::string owner_of(const HttpRequest& request) const;

 private:
  bool is_allowed(const HttpRequest& request) const;

  const Model& model_;
  Scheduler& scheduler_;
  const ApiOptions options_;
  ServerMetrics metrics_;
  std::atomic<bool> draining_ = false;
};

// An error as a client reads it: {"error": {"code", "message", "type", ...}}.
struct ApiError {
  int status = 500;
  nlohmann::json body;
  HttpExchange::Headers headers = {};
};
ApiError api_error(const Error& error);
ApiError api_error(int status, const std::string& type, const std::string& message);
// The same in Anthropic's form.
nlohmann::json anthropic_error(const ApiError& error);

// A prompt, or a conversation with it, is longer than may be.
bool is_too_long(const Error& error);
// The same with its numbers.
Error context_error(std::size_t n_prompt, std::size_t n_ctx);

// One line of JSON, whatever bytes are in its texts.
std::string dumped(const nlohmann::json& json);
void send_json(HttpExchange& exchange, const nlohmann::json& json, int status = 200);
std::string random_id(const char* prefix);

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
nlohmann::json usage_of(const Served& served);
nlohmann::json timings_of(const Served& served);
// "stop", "length", "tool_calls".
std::string finish_reason(const Answer& answer);

// --- handlers --------------------------------------------------------------------------------------------------------

void chat_completions(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void completions(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void native_completion(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void responses(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void anthropic_messages(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void anthropic_count_tokens(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void tokenize(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void detokenize(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void apply_template(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void tokenizer_info(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void list_models(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void props(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void slots(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void list_sessions(Api& api, const std::shared_ptr<HttpExchange>& exchange);

}  // namespace lacake::cli
