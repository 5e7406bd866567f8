#include "serve/api.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "lacake/error.h"
#include "serve/page.h"
#include "serve/sending.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

enum class Access {
  kAnyone,  // also from another host or origin
  kNoKey,
  kKey,  // if the server has keys
};

struct Route {
  const char* method;
  const char* path;  // a "*" in it is one name, whatever it is
  Access access;
  void (*handle)(Api&, const std::shared_ptr<HttpExchange>&);
};

// Alive. Whoever asks may know, by whatever name it asks.
void health(Api&, const std::shared_ptr<HttpExchange>& exchange) { send_json(*exchange, {{"status", "ok"}}); }

constexpr Route kRoutes[] = {
    {"GET", "/health", Access::kAnyone, health},
    {"GET", "/v1/health", Access::kAnyone, health},
    {"GET", "/ready", Access::kNoKey, is_ready},
    {"GET", "/metrics", Access::kKey, show_metrics},
    {"POST", "/v1/chat/completions", Access::kKey, chat_completions},
    {"POST", "/chat/completions", Access::kKey, chat_completions},
    {"POST", "/v1/chat/completions/input_tokens", Access::kKey, count_chat_tokens},
    {"POST", "/chat/completions/input_tokens", Access::kKey, count_chat_tokens},
    {"POST", "/v1/completions", Access::kKey, completions},
    {"POST", "/completion", Access::kKey, native_completion},
    {"POST", "/completions", Access::kKey, native_completion},
    {"POST", "/v1/responses", Access::kKey, responses},
    {"POST", "/responses", Access::kKey, responses},
    {"POST", "/v1/responses/input_tokens", Access::kKey, count_response_tokens},
    {"POST", "/responses/input_tokens", Access::kKey, count_response_tokens},
    {"POST", "/v1/messages", Access::kKey, anthropic_messages},
    {"POST", "/v1/messages/count_tokens", Access::kKey, anthropic_count_tokens},
    {"GET", "/v1/models", Access::kNoKey, list_models},
    {"GET", "/models", Access::kNoKey, list_models},
    {"POST", "/tokenize", Access::kKey, tokenize},
    {"POST", "/detokenize", Access::kKey, detokenize},
    {"POST", "/apply-template", Access::kKey, apply_template},
    {"GET", "/tokenizer_info", Access::kKey, tokenizer_info},
    {"GET", "/props", Access::kKey, props},
    {"GET", "/slots", Access::kKey, slots},
    {"GET", "/v1/sessions", Access::kKey, list_sessions},
    {"POST", "/v1/sessions", Access::kKey, restore_session},
    {"DELETE", "/v1/sessions/*", Access::kKey, drop_session},
    {"GET", "/v1/sessions/*/cache", Access::kKey, session_cache},
    {"GET", "/v1/sessions/*/snapshot", Access::kKey, session_snapshot},
    {"POST", "/v1/sessions/*/fork", Access::kKey, fork_session},
    {"POST", "/drain", Access::kNoKey, begin_drain},
};

bool is_at(const Route& route, std::string_view path) {
  const std::string_view pattern = route.path;
  const std::size_t star = pattern.find('*');
  if (star == pattern.npos) return path == pattern;
  const std::string_view before = pattern.substr(0, star), after = pattern.substr(star + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after)) return false;
  return path.substr(before.size(), path.size() - before.size() - after.size()).find('/') == path.npos;
}

// Takes the same time wherever two keys differ.
bool same_key(std::string_view a, std::string_view b) {
  unsigned char differs = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    differs = (unsigned char)(differs | (unsigned char)(a[i] ^ (b.empty() ? 0 : b[i % b.size()])));
  }
  return differs == 0;
}

// The name of the scheme may be in small letters too (RFC 9110, 11.1).
std::string key_of(const HttpRequest& request) {
  const std::string authorization = request.header("authorization");
  constexpr std::string_view kBearer = "bearer ";
  const bool bears =
      authorization.size() >= kBearer.size() &&
      std::equal(kBearer.begin(), kBearer.end(), authorization.begin(),
                 [](char expected, unsigned char found) { return expected == (char)std::tolower(found); });
  return bears ? authorization.substr(kBearer.size()) : request.header("x-api-key");
}

ApiError key_refusal(const HttpRequest& request) {
  const bool has_one = !request.header("authorization").empty() || !request.header("x-api-key").empty();
  ApiError refusal =
      api_error(401, fmt::format("Authorization or X-Api-Key: expected a key of this server (\"Authorization: Bearer "
                                 "KEY\" or \"X-Api-Key: KEY\"), found {}",
                                 has_one ? "another" : "none"));
  refusal.headers = {{"WWW-Authenticate", "Bearer"}};
  return refusal;
}

// What a client wrote, short enough for a line and harmless on a terminal.
std::string shown(const std::string& text) {
  constexpr std::size_t kLongest = 120;
  std::string line = json(text.substr(0, kLongest)).dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() > kLongest ? line + "..." : line;
}

// A body that would be read as what it is not.
std::optional<ApiError> encoding_refusal(const HttpRequest& request) {
  const std::string encoding = request.header("content-encoding");
  if (encoding.empty() || encoding == "identity") return {};
  ApiError refusal =
      api_error(415, "Content-Encoding: expected none, as bodies are not decompressed, found " + shown(encoding));
  refusal.headers = {{"Accept-Encoding", "identity"}};
  return refusal;
}

// All methods of a path. HEAD is GET without the body.
class Allowed {
 public:
  void add(const std::string& method) {
    if (std::find(methods_.begin(), methods_.end(), method) == methods_.end()) methods_.push_back(method);
    if (method == "GET") add("HEAD");
  }
  bool none() const { return methods_.empty(); }
  ApiError refusal(const HttpRequest& request) const {
    ApiError wrong = api_error(405, fmt::format("{}: expected {}, found {}", shown(request.path),
                                                fmt::join(methods_, " or "), shown(request.method)));
    wrong.headers = {{"Allow", fmt::format("{}", fmt::join(methods_, ", "))}};
    return wrong;
  }

 private:
  std::vector<std::string> methods_;
};

}  // namespace

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

std::optional<ApiError> Api::refusal_of(const HttpRequest& request) const {
  if (!may_be_called(request.header("host"))) {
    return api_error(403,
                     "host: expected localhost or an address, as this server has no keys (--api-key) and listens to "
                     "this machine alone (--host), found \"" +
                         request.header("host") + "\"");
  }
  if (!may_come_from(request)) {
    return api_error(403,
                     "origin: expected a page of this server, or --cors, found \"" + request.header("origin") + "\"");
  }
  return {};
}

void show_metrics(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  exchange->send(200, "text/plain; version=0.0.4", api.metrics().text(api.scheduler().status()),
                 {{"Process-Start-Time-Unix", std::to_string(api.started())}});
}

void is_ready(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  if (api.is_draining()) return send_error(*exchange, try_later(503, "the server is stopping"));
  send_json(*exchange, {{"status", "ok"}});
}

void Api::answer(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  for (const Route& route : kRoutes) {
    const bool asked = route.access == Access::kAnyone && method == route.method && is_at(route, request.path);
    if (asked) return route.handle(*this, exchange);
  }
  if (const auto refusal = refusal_of(request)) return send_error(*exchange, *refusal);
  if (request.method == "OPTIONS" && !options_.cors.empty()) {
    return exchange->send(204, "text/plain", "",
                          {{"Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"},
                           {"Access-Control-Allow-Headers", "*, Authorization, Content-Type, X-Api-Key"}});
  }
  Allowed allowed;
  for (const Route& route : kRoutes) {
    if (!is_at(route, request.path)) continue;
    allowed.add(route.method);
    if (method != route.method) continue;
    if (route.access == Access::kKey && !is_allowed(request)) return send_error(*exchange, key_refusal(request));
    if (const auto refusal = encoding_refusal(request)) return send_error(*exchange, *refusal);
    // Reading a long body takes time, in which the server's thread would send nobody's answers.
    constexpr std::size_t kLongBody = 256 << 10;
    if (request.body.size() <= kLongBody) return route.handle(*this, exchange);
    return worker_.add([this, exchange, handler = route.handle] { call(handler, exchange); });
  }
  // It holds nothing of anybody: what it shows it asks for with the key that its user has.
  if (const PageFile* const file = options_.page ? page_file(request.path) : nullptr) {
    if (method == "GET") return send_page(*exchange, *file);
    allowed.add("GET");
  }
  if (allowed.none()) return send_error(*exchange, api_error(404, "File Not Found: " + shown(request.path)));
  send_error(*exchange, allowed.refusal(request));
}

void Api::handle(const std::shared_ptr<HttpExchange>& exchange) {
  call([](Api& api, const std::shared_ptr<HttpExchange>& to) { api.answer(to); }, exchange);
}

void Api::call(Handler handler, const std::shared_ptr<HttpExchange>& exchange) {
  try {
    handler(*this, exchange);
  } catch (const Error& error) {
    send_error(*exchange, api_error(error));
  } catch (const std::exception& error) {
    send_error(*exchange, api_error(500, error.what()));
  }
}

std::size_t Api::longest_piece() const {
  std::call_once(measured_, [this] {
    for (Token token = 0; token < model_.facts().n_vocab; ++token) {
      longest_piece_ = std::max(longest_piece_, token_text(token).size());
    }
  });
  return longest_piece_;
}

void Api::require_fits(std::size_t n_bytes, const PolicySpec* policy) const {
  const ModelFacts& facts = model_.facts();
  const std::size_t most = options_.most_tokens.value_or((std::size_t)facts.training_length);
  if (n_bytes <= most) return;  // nearly all: no token is of less than a byte
  const std::size_t least = n_bytes / longest_piece();
  if (least <= most) return;
  const bool ends = policy && policy->positions(facts.policy_attention()) == Positions::kOriginal;
  if (!options_.most_tokens && !ends) return;
  throw Error({.kind = Error::Kind::kCapacity,
               .subject = kTooLong,
               .expected = fmt::format("{} tokens", most),
               .found = fmt::format("{} tokens or more", least)});
}

std::shared_ptr<void> Api::begin_copy() {
  constexpr int kMostCopies = 8;
  // Counted before it is compared: two that come at once are both seen.
  std::shared_ptr<void> place(nullptr, [n = n_copies_](void*) { --*n; });
  if (++*n_copies_ > kMostCopies) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "queue",
                 .expected = fmt::format("{} conversations at most that are copied at once", kMostCopies),
                 .found = "one more"});
  }
  return place;
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

}  // namespace lacake::cli
