#include "serve/sending.h"

#include <fmt/format.h>

#include <map>

namespace lacake::cli {
namespace {

using nlohmann::json;

bool is_anthropic(const HttpRequest& request) { return request.path.starts_with("/v1/messages"); }

const char* type_of(int status) {
  switch (status) {
    case 400:
    case 405:
    case 415:
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
      {"sampling_seq", "samplers"},
      {"reasoning_budget", "reasoning_budget_tokens"},
      {"continue_last_message", "continue_final_message"},
  };
  const auto at = names.find(setting);
  return at == names.end() ? "" : at->second;
}

// The field that an error is about, by the name that it has in requests.
std::string param_of(const std::string& subject) {
  const std::string name = field_of(std::string_view(subject).substr(0, subject.find_first_of(" :")));
  return name.empty() ? subject : name;
}

ApiError with_type(int status, const char* type, const std::string& message) {
  return {.status = status, .body = {{"error", {{"code", status}, {"message", message}, {"type", type}}}}};
}

constexpr const char* kRetryAfter = "5";  // seconds

}  // namespace

ApiError api_error(int status, const std::string& message) { return with_type(status, type_of(status), message); }

ApiError try_later(int status, const std::string& message) {
  ApiError later = api_error(status, message);
  later.headers = {{"Retry-After", kRetryAfter}};
  return later;
}

bool is_too_long(const Error& error) {
  const Error::Fields& fields = error.fields();
  if (fields.subject == "prompt") return fields.expected.find("training length") != fields.expected.npos;
  return fields.subject == "ctx_size" || (error.kind() == Error::Kind::kCapacity && fields.subject == "KV cache");
}

ApiError context_error(std::size_t n_prompt, std::size_t n_ctx) {
  const std::string message =
      fmt::format("request ({} tokens) exceeds the available context size ({} tokens)", n_prompt, n_ctx);
  ApiError full = with_type(400, "exceed_context_size_error", message);
  json& said = full.body["error"];
  said["code"] = "context_length_exceeded";
  said["n_prompt_tokens"] = n_prompt;
  said["n_ctx"] = n_ctx;
  return full;
}

ApiError api_error(const Error& error) {
  const Error::Fields& fields = error.fields();
  if (fields.subject == "opening") {
    ApiError full = context_error(std::stoull(fields.found), std::stoull(fields.expected));
    json& message = full.body["error"]["message"];
    message = message.get<std::string>() + ": its system message and tools alone, which always stay; expected " +
              fields.expected;
    return full;
  }
  if (fields.subject == kTooLong) return context_error(std::stoull(fields.found), std::stoull(fields.expected));
  const std::string line = error.with_names(field_of);
  int status = 400;
  if (error.kind() == Error::Kind::kState)
    status = fields.subject == "conversation" || fields.subject == "session" ? 409 : 503;
  if (error.kind() == Error::Kind::kInput && fields.subject == "conversation") status = 404;
  if (error.kind() == Error::Kind::kCapacity && !fields.remedy.empty() && fields.subject == "kv_memory") status = 429;
  if (fields.subject == "queue") status = 429;
  ApiError plain = status == 503 || status == 429 ? try_later(status, line) : api_error(status, line);
  if (error.kind() == Error::Kind::kUsage) plain.body["error"]["param"] = param_of(fields.subject);
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

std::string dumped(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

void send_json(HttpExchange& exchange, const json& value, int status) {
  exchange.send(status, "application/json", dumped(value));
}

}  // namespace lacake::cli
