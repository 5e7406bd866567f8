#include "serve/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lacake/error.h"
#include "serve/page.h"
#include "text/utf8.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

struct Route {
  const char* method;
  const char* path;  // a "*" in it is one name, whatever it is
  bool open;         // without a key
  void (*handle)(Api&, const std::shared_ptr<HttpExchange>&);
};

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", false, chat_completions},
    {"POST", "/chat/completions", false, chat_completions},
    {"POST", "/v1/chat/completions/input_tokens", false, count_chat_tokens},
    {"POST", "/chat/completions/input_tokens", false, count_chat_tokens},
    {"POST", "/v1/completions", false, completions},
    {"POST", "/completion", false, native_completion},
    {"POST", "/completions", false, native_completion},
    {"POST", "/v1/responses", false, responses},
    {"POST", "/responses", false, responses},
    {"POST", "/v1/responses/input_tokens", false, count_response_tokens},
    {"POST", "/responses/input_tokens", false, count_response_tokens},
    {"POST", "/v1/messages", false, anthropic_messages},
    {"POST", "/v1/messages/count_tokens", false, anthropic_count_tokens},
    {"GET", "/v1/models", true, list_models},
    {"GET", "/models", true, list_models},
    {"POST", "/tokenize", false, tokenize},
    {"POST", "/detokenize", false, detokenize},
    {"POST", "/apply-template", false, apply_template},
    {"GET", "/tokenizer_info", false, tokenizer_info},
    {"GET", "/props", false, props},
    {"GET", "/slots", false, slots},
    {"GET", "/v1/sessions", false, list_sessions},
    {"POST", "/v1/sessions", false, restore_session},
    {"DELETE", "/v1/sessions/*", false, drop_session},
    {"GET", "/v1/sessions/*/cache", false, session_cache},
    {"GET", "/v1/sessions/*/snapshot", false, session_snapshot},
    {"POST", "/v1/sessions/*/fork", false, fork_session},
    {"POST", "/drain", true, begin_drain},
};

bool is_at(const Route& route, std::string_view path) {
  const std::string_view pattern = route.path;
  const std::size_t star = pattern.find('*');
  if (star == pattern.npos) return path == pattern;
  const std::string_view before = pattern.substr(0, star), after = pattern.substr(star + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after)) return false;
  return path.substr(before.size(), path.size() - before.size() - after.size()).find('/') == path.npos;
}

bool is_anthropic(const HttpRequest& request) { return request.path.starts_with("/v1/messages"); }

// Takes the same time wherever two keys differ.
bool same_key(std::string_view a, std::string_view b) {
  unsigned char differs = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    differs = (unsigned char)(differs | (unsigned char)(a[i] ^ (b.empty() ? 0 : b[i % b.size()])));
  }
  return differs == 0;
}

std::string key_of(const HttpRequest& request) {
  const std::string authorization = request.header("authorization");
  constexpr std::string_view kBearer = "Bearer ";
  if (authorization.starts_with(kBearer)) return authorization.substr(kBearer.size());
  return request.header("x-api-key");
}

const char* type_of(int status) {
  switch (status) {
    case 400:
      return "invalid_request_error";
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 409:
      return "conflict_error";
    case 429:
      return "rate_limit_error";
    case 501:
      return "not_supported_error";
    case 503:
      return "unavailable_error";
    default:
      return "server_error";
  }
}

// Fields of requests by the names that the library has for them.
std::string field_of(std::string_view setting) {
  static const std::map<std::string_view, std::string> names = {
      {"temp", "temperature"},
      {"predict", "max_tokens"},
      {"kv_budget", "lacake.kv_budget"},
      {"policy", "lacake.policy"},
      {"template_arguments", "chat_template_kwargs"},
      {"thinking", "chat_template_kwargs.enable_thinking"},
      {"ctx_size", "prompt"},
      {"continue_last_message", "continue_final_message"},
  };
  const auto at = names.find(setting);
  return at == names.end() ? "" : at->second;
}

constexpr const char* kRetryAfter = "5";  // seconds

constexpr const char* kContextSubject = "context";

// A prompt, or a conversation with it, is longer than may be.
bool is_too_long(const Error& error) {
  const Error::Fields& fields = error.fields();
  if (fields.subject == "prompt") return fields.expected.find("training length") != fields.expected.npos;
  return fields.subject == "ctx_size" || (error.kind() == Error::Kind::kCapacity && fields.subject == "KV cache");
}

// The same with its numbers.
Error context_error(std::size_t n_prompt, std::size_t n_ctx) {
  return Error({.kind = Error::Kind::kCapacity,
                .subject = kContextSubject,
                .expected = fmt::format("{}", n_ctx),
                .found = fmt::format("{}", n_prompt)});
}

}  // namespace

// --- errors ----------------------------------------------------------------------------------------------------------

ApiError api_error(int status, const std::string& type, const std::string& message) {
  return {.status = status, .body = {{"error", {{"code", status}, {"message", message}, {"type", type}}}}};
}

ApiError api_error(const Error& error) {
  const Error::Fields& fields = error.fields();
  if (fields.subject == kContextSubject || fields.subject == "opening") {
    // The words and fields by which clients know that they must shorten a conversation.
    const std::uint64_t found = std::stoull(fields.found), most = std::stoull(fields.expected);
    std::string message =
        fmt::format("request ({} tokens) exceeds the available context size ({} tokens)", found, most);
    if (fields.subject == "opening") {
      message += ": its system message and tools alone, which always stay; expected " + fields.expected;
    }
    ApiError full = api_error(400, "exceed_context_size_error", message);
    full.body["error"]["code"] = "context_length_exceeded";
    full.body["error"]["n_prompt_tokens"] = found;
    full.body["error"]["n_ctx"] = most;
    return full;
  }
  const std::string line = error.with_names(field_of);
  if (fields.subject == "queue") {
    ApiError busy = api_error(429, type_of(429), line);
    busy.headers = {{"Retry-After", kRetryAfter}};
    return busy;
  }
  int status = 400;
  if (error.kind() == Error::Kind::kState) status = fields.subject == "conversation" ? 409 : 503;
  if (error.kind() == Error::Kind::kInput && fields.subject == "conversation") status = 404;
  if (error.kind() == Error::Kind::kCapacity && !fields.remedy.empty() && fields.subject == "kv_memory") status = 429;
  ApiError plain = api_error(status, type_of(status), line);
  if (status == 503 || status == 429) plain.headers = {{"Retry-After", kRetryAfter}};
  if (error.kind() == Error::Kind::kUsage) plain.body["error"]["param"] = fields.subject;
  return plain;
}

json anthropic_error(const ApiError& error) {
  const json& inner = error.body["error"];
  std::string type = error.status == 503 ? "overloaded_error" : type_of(error.status);
  if (error.status >= 500 && error.status != 503) type = "api_error";
  return {{"type", "error"}, {"error", {{"type", type}, {"message", inner["message"]}}}};
}

void send_error(HttpExchange& exchange, const ApiError& error) {
  const json body = is_anthropic(exchange.request()) ? anthropic_error(error) : error.body;
  exchange.note({{"error", error.body["error"]["message"]}});
  exchange.send(error.status, "application/json", dumped(body), error.headers);
}

// --- routes ----------------------------------------------------------------------------------------------------------

Api::Api(const Model& model, Scheduler& scheduler, ApiOptions options)
    : model_(model), scheduler_(scheduler), options_(std::move(options)) {}

bool Api::is_allowed(const HttpRequest& request) const {
  if (options_.keys.empty()) return true;
  const std::string given = key_of(request);
  bool found = false;
  for (const std::string& key : options_.keys) found = same_key(given, key) || found;
  return found;
}

// Browsers say which page asks. Others than ours could not read the answer, but make us work, or change something.
bool Api::may_come_from(const HttpRequest& request) const {
  const std::string origin = request.header("origin");
  if (origin.empty() || options_.cors == "*" || origin == options_.cors) return true;
  const std::string host = request.header("host");
  return origin == "http://" + host || origin == "https://" + host;
}

bool Api::is_operator(const HttpRequest& request) const {
  return !options_.admin_key.empty() && same_key(key_of(request), options_.admin_key);
}

// Without keys, whoever can reach us may do everything. That shall be no web page whose name was made to lead here
// ("DNS rebinding"): on a server for this machine alone, only names of this machine are asked for.
bool Api::may_be_called(const std::string& host) const {
  if (!options_.local || !options_.keys.empty() || host.empty()) return true;  // browsers always say it
  const bool v6 = host.starts_with('[');
  const std::string name = v6 ? host.substr(0, host.find(']') + 1) : host.substr(0, host.find(':'));
  const bool is_address = v6 || name.find_first_not_of("0123456789.") == name.npos;
  return is_address || name == "localhost" || name.ends_with(".localhost");
}

// The same for all that come without a key.
std::string Api::owner_of(const HttpRequest& request) const { return options_.keys.empty() ? "" : key_of(request); }

void Api::handle(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  try {
    if (request.method == "GET" && (request.path == "/health" || request.path == "/v1/health")) {
      return send_json(*exchange, {{"status", "ok"}});
    }
    if (!may_be_called(request.header("host"))) {
      return send_error(*exchange, api_error(403, type_of(403),
                                             "host: expected localhost or an address, as this server has no keys "
                                             "(--api-key) and listens to this machine alone (--host), found \"" +
                                                 request.header("host") + "\""));
    }
    if (!may_come_from(request)) {
      return send_error(*exchange, api_error(403, type_of(403),
                                             "origin: expected a page of this server, or --cors, found \"" +
                                                 request.header("origin") + "\""));
    }
    if (request.method == "OPTIONS" && !options_.cors.empty()) {
      return exchange->send(204, "text/plain", "",
                            {{"Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"},
                             {"Access-Control-Allow-Headers", "*, Authorization, Content-Type, X-Api-Key"}});
    }
    if (request.method == "GET" && request.path == "/ready") {
      if (!draining_) return send_json(*exchange, {{"status", "ok"}});
      ApiError stopping = api_error(503, type_of(503), "the server is stopping");
      stopping.headers = {{"Retry-After", kRetryAfter}};
      return send_error(*exchange, stopping);
    }
    const char* allowed = nullptr;
    for (const Route& route : kRoutes) {
      if (!is_at(route, request.path)) continue;
      allowed = route.method;
      if (request.method != route.method) continue;
      if (!route.open && !is_allowed(request)) {
        return send_error(*exchange, api_error(401, type_of(401), "Invalid API Key"));
      }
      return route.handle(*this, exchange);
    }
    if (request.path == "/metrics" && request.method == "GET") {
      if (!is_allowed(request)) return send_error(*exchange, api_error(401, type_of(401), "Invalid API Key"));
      return exchange->send(200, "text/plain; version=0.0.4", metrics_.text(scheduler_.status()),
                            {{"Process-Start-Time-Unix", std::to_string(started_)}});
    }
    // It holds nothing of anybody: what it shows it asks for with the key that its user has.
    if (const PageFile* const file = options_.page ? page_file(request.path) : nullptr) {
      if (request.method == "GET") return send_page(*exchange, *file);
      allowed = "GET";
    }
    if (allowed) {
      ApiError wrong = api_error(405, type_of(400), fmt::format("{}: expected {}", request.path, allowed));
      wrong.headers = {{"Allow", allowed}};
      return send_error(*exchange, wrong);
    }
    send_error(*exchange, api_error(404, type_of(404), "File Not Found"));
  } catch (const Error& error) {
    send_error(*exchange, api_error(error));
  } catch (const std::exception& error) {
    send_error(*exchange, api_error(500, type_of(500), error.what()));
  }
}

void Api::submit(const std::shared_ptr<HttpExchange>& exchange, Request request,
                 std::shared_ptr<RequestClient> client) {
  const Scheduler::Ticket ticket = scheduler_.submit(std::move(request), std::move(client));
  exchange->when_gone([&scheduler = scheduler_, ticket] { scheduler.cancel(ticket); });
}

std::string Api::conversation_key(const HttpRequest& request, const Fields& fields) {
  if (const json* const own = fields.object("lacake")) {
    if (const auto session = Fields(*own, "lacake.").text("session")) return *session;
  }
  for (const char* name : {"prompt_cache_key", "session_id"}) {
    if (const auto value = fields.text(name)) return *value;
  }
  for (const char* name :
       {"x-conversation-id", "x-claude-code-session-id", "x-session-affinity", "x-session-id", "x-openwebui-chat-id"}) {
    if (const std::string value = request.header(name); !value.empty()) return value;
  }
  return "";
}

std::vector<unsigned char> Api::token_bytes(Token token) const {
  const std::string text = token_text(token);
  return {text.begin(), text.end()};
}

Token Api::token_of(const json& value, const char* field) const {
  const int n_vocab = model_.facts().n_vocab;
  const bool known = value.is_number_integer() && value.get<std::int64_t>() >= 0 && value.get<std::int64_t>() < n_vocab;
  if (!known) refuse_field(field, fmt::format("tokens from 0 to {}", n_vocab - 1), value);
  return value.get<Token>();
}

json Api::probabilities(std::span<const LogProbabilities> all) const {
  const auto one = [this](const TokenProbability& p) {
    return json{
        {"id", p.token}, {"token", token_text(p.token)}, {"logprob", p.logprob}, {"bytes", token_bytes(p.token)}};
  };
  json list = json::array();
  for (const LogProbabilities& p : all) {
    json token = one(p.token);
    token["top_logprobs"] = json::array();
    for (const TokenProbability& best : p.best) token["top_logprobs"].push_back(one(best));
    list.push_back(std::move(token));
  }
  return list;
}

// --- what handlers share ---------------------------------------------------------------------------------------------

std::string dumped(const json& json) { return json.dump(-1, ' ', false, json::error_handler_t::replace); }

void send_json(HttpExchange& exchange, const json& json, int status) {
  exchange.send(status, "application/json", dumped(json));
}

AnswerPiece AnswerPieces::next(std::string_view text, const Generation& generation) {
  if (parses_) return text.empty() ? AnswerPiece() : grown(generation.parsed(), false);
  n_content_ += text.size();
  return {.content = std::string(text)};
}

AnswerPiece AnswerPieces::rest(const Answer& answer) { return grown(answer.parsed, true); }

std::string AnswerPieces::call_id(const ToolCall& call, std::size_t index) {
  while (calls_.size() <= index) calls_.push_back({});
  if (calls_[index].id.empty()) calls_[index].id = call.id.empty() ? random_id("call_") : call.id;
  return calls_[index].id;
}

AnswerPiece AnswerPieces::grown(const ParsedAnswer& parsed, bool whole) {
  AnswerPiece piece;
  const auto take = [](const std::string& text, std::size_t& n) {
    const std::size_t from = std::min(n, text.size());
    n = std::max(n, text.size());
    return text.substr(from);
  };
  piece.content = take(parsed.content, n_content_);
  piece.reasoning = take(parsed.reasoning, n_reasoning_);
  for (std::size_t i = 0; i < parsed.tool_calls.size(); ++i) {
    const ToolCall& call = parsed.tool_calls[i];
    const bool begins = calls_.size() <= i;
    if (begins && call.name.empty() && !whole) break;
    CallPiece grown{.index = i, .begins = begins};
    grown.id = call_id(call, i);
    grown.name = call.name;
    grown.arguments = take(call.arguments, calls_[i].n_arguments);
    if (begins || !grown.arguments.empty()) piece.calls.push_back(std::move(grown));
  }
  return piece;
}

json cache_facts(const ServedCache& cache) {
  std::size_t n_entries = 0;
  for (const std::size_t n : cache.use.entries_per_layer) n_entries += n;
  const std::uint64_t full = cache.use.full_bytes, held = cache.use.held_bytes;
  json facts = {{"policy", cache.policy},       {"budget_bytes", cache.use.budget_bytes},
                {"held_bytes", held},           {"dropped_bytes", full > held ? full - held : 0},
                {"entries_held", n_entries},    {"prompt_tokens", cache.n_prompt},
                {"cached_tokens", cache.n_held}};
  if (!cache.id.empty()) facts["id"] = cache.id;
  if (cache.stored) facts["stored"] = *cache.stored;
  return facts;
}

json usage_of(const Served& served) {
  std::size_t n_written = 0;
  for (const Answer& answer : served.answers) n_written += answer.tokens.size();
  return {{"prompt_tokens", served.cache.n_prompt},
          {"completion_tokens", n_written},
          {"total_tokens", served.cache.n_prompt + n_written},
          {"prompt_tokens_details", {{"cached_tokens", served.cache.n_held}}}};
}

std::string finish_reason(const Answer& answer) {
  if (answer.finish == Finish::kLength) return "length";
  return answer.parsed.tool_calls.empty() ? "stop" : "tool_calls";
}

// --- what clients of all APIs do -------------------------------------------------------------------------------------

void Answering::count_token() {
  if (!any_token_) {
    api_.metrics().first_token(since_start_.ms() / 1e3);
  } else {
    api_.metrics().between_tokens(last_token_.ms() / 1e3);
  }
  any_token_ = true;
  last_token_ = Stopwatch();
}

void Answering::answered(std::span<const Served> all) {
  std::size_t n_prompt = 0, n_held = 0, n_written = 0;
  double queue_ms = 0;
  json finish = json::array(), texts = json::array();
  for (const Served& served : all) {
    n_prompt += served.cache.n_prompt, n_held += served.cache.n_held;
    queue_ms = std::max(queue_ms, served.queue_ms);
    for (const Answer& answer : served.answers) {
      n_written += answer.tokens.size();
      finish.push_back(answer.finish == Finish::kCancelled ? "cancelled" : finish_reason(answer));
      texts.push_back(answer.text);
    }
  }
  exchange_->note({{"model", api_.options().alias},
                   {"prompt_tokens", n_prompt},
                   {"cached_tokens", n_held},
                   {"generated_tokens", n_written},
                   {"queue_ms", queue_ms},
                   {"finish", finish.size() == 1 ? finish[0] : finish}});
  if (api_.options().logs_answers) exchange_->note({{"answer", texts.size() == 1 ? texts[0] : texts}});
}

ApiError Answering::told(const Error& error) const {
  ApiError told = api_error(error);
  if (is_too_long(error)) {
    try {
      told = api_error(context_error(prompt_length(), api_.options().n_ctx));
    } catch (const Error&) {  // the template refuses it: what was wrong first is said
    }
  }
  exchange_->note({{"error", told.body["error"]["message"]}});
  return told;
}

bool Answering::sign_is_due() {
  constexpr double kSignMs = 5000;
  if (!stream_ || last_sign_.ms() < kSignMs) return false;
  last_sign_ = Stopwatch();
  return true;
}

std::size_t ChatAnswering::prompt_length() const { return api_.model().chat(messages_, chat_).tokens.size(); }

namespace {

void require_template(const Model& model) {
  if (model.has_chat_template()) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "messages",
               .expected = "a model with a chat template (--chat-template)",
               .found = "one without"});
}

}  // namespace

void count_tokens(const Api& api, HttpExchange& exchange, const Fields& fields, const std::vector<Message>& messages,
                  ChatOptions chat) {
  require_template(api.model());
  go_on_with_last(chat, fields, messages);
  send_json(exchange, {{"input_tokens", api.model().chat(messages, chat).tokens.size()}});
}

ChatCall::ChatCall(const Api& api, const HttpRequest& http, const Fields& fields, std::vector<Message> messages,
                   Asking asking) {
  require_template(api.model());
  request.asking = std::move(asking);
  request.session = session_of(fields, api.options().defaults, true);
  go_on_with_last(request.asking.chat, fields, messages);
  const ChatPrompt prompt = api.model().render_chat(messages, request.asking.chat);
  if (fields.flag("verbose").value_or(api.options().verbose)) {
    shown = {{"prompt", prompt.text.text},
             {"generation_settings", generation_settings(api.model(), request.asking.generation)}};
  }
  parses = prompt.format.has_reasoning() || prompt.format.has_tool_calls();
  request.what = ChatRequest{
      .messages = std::move(messages), .key = Api::conversation_key(http, fields), .owner = api.owner_of(http)};
}

}  // namespace lacake::cli
