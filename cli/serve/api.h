#pragma once

// What clients can ask for over HTTP, and who may: routes and keys. One file for each kind of client.

#include <atomic>
#include <ctime>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/worker.h"
#include "lacake/model.h"
#include "lacake/scheduler.h"
#include "serve/asking.h"
#include "serve/http.h"
#include "serve/metrics.h"
#include "serve/sending.h"
#include "serve/store_watch.h"

namespace lacake::cli {

struct ApiOptions {
  ServeDefaults defaults;
  std::string alias;                            // the model's name for clients
  std::string version;                          // of the program
  std::vector<std::string> keys;                // one of them is needed, if there are any
  std::string admin_key;                        // for POST /drain; "": nobody may
  bool local = false;                           // it listens to this machine alone
  std::string cors;                             // the origin that browsers may come from; "": none but this server
  bool page = true;                             // in the browser
  std::size_t n_ctx = 0;                        // most tokens of a conversation, as clients are told
  std::optional<std::size_t> most_tokens = {};  // of one under every policy, where the user bounds it
  std::size_t n_parallel = 0;                   // conversations that fit in memory
  bool logs_answers = false;                    // their texts are for the log too
  bool slots = true;                            // whether GET /slots answers
  bool verbose = false;                         // whether chats show their prompts, where a request does not say
  nlohmann::json settings;                      // of the server, as GET /props shows them
};

// Who may ask, and what for. Handlers run on the HTTP server's thread, those of long bodies on the worker's; answers
// come from the scheduler's.
class Api {
 public:
  // Borrows model and scheduler.
  Api(const Model& model, Scheduler& scheduler, ApiOptions options);

  void handle(const std::shared_ptr<HttpExchange>& exchange);
  // From here on GET /ready says no.
  void drain() { draining_ = true; }
  bool is_draining() const { return draining_; }

  // --- for the handlers ------------------------------------------------------------------------------------------

  const Model& model() const { return model_; }
  Scheduler& scheduler() { return scheduler_; }
  const ApiOptions& options() const { return options_; }
  ServerMetrics& metrics() { return metrics_; }
  StoreWatch& store_watch() { return store_watch_; }
  Worker& worker() { return worker_; }
  std::time_t started() const { return started_; }
  // A place for one who wants a whole conversation copied, which takes its bytes until they are sent or kept. Throws
  // Error(kCapacity) about `queue` where too many want one at once.
  std::shared_ptr<void> begin_copy();
  // A body's request to the scheduler; cancelled when the client goes. Throws what Scheduler::submit throws.
  void submit(const std::shared_ptr<HttpExchange>& exchange, Request request, std::shared_ptr<RequestClient> client);
  // Throws an error about kTooLong where a text of so many bytes cannot be a prompt, however it is cut into tokens:
  // before that takes seconds. `policy`: of its session; null where it is not known.
  void require_fits(std::size_t n_bytes, const PolicySpec* policy) const;
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
  void answer(const std::shared_ptr<HttpExchange>& exchange);
  std::size_t longest_piece() const;  // bytes of the longest token, found when they are first asked for
  using Handler = void (*)(Api&, const std::shared_ptr<HttpExchange>&);
  void call(Handler handler, const std::shared_ptr<HttpExchange>& exchange);  // what it throws is sent
  // Why it may not ask, whatever it asks for.
  std::optional<ApiError> refusal_of(const HttpRequest& request) const;
  bool may_come_from(const HttpRequest& request) const;
  bool may_be_called(const std::string& host) const;

  const Model& model_;
  Scheduler& scheduler_;
  const ApiOptions options_;
  ServerMetrics metrics_;
  StoreWatch store_watch_;
  mutable std::once_flag measured_;
  mutable std::size_t longest_piece_ = 1;
  const std::time_t started_ = std::time(nullptr);
  std::atomic<bool> draining_ = false;
  const std::shared_ptr<std::atomic<int>> n_copies_ = std::make_shared<std::atomic<int>>(0);
  Worker worker_;  // borrows what stands above
};

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
void is_ready(Api& api, const std::shared_ptr<HttpExchange>& exchange);
void show_metrics(Api& api, const std::shared_ptr<HttpExchange>& exchange);
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
