#pragma once

// What is sent to clients: JSON, and errors as each kind of client reads them.

#include <nlohmann/json.hpp>
#include <string>

#include "lacake/error.h"
#include "serve/http.h"

namespace lacake::cli {

// An error as a client reads it: {"error": {"code", "message", "type", ...}}.
struct ApiError {
  int status = 500;
  nlohmann::json body;
  HttpExchange::Headers headers = {};
};
ApiError api_error(const Error& error);
ApiError api_error(int status, const std::string& message);
// One that asks to come again later.
ApiError try_later(int status, const std::string& message);
// A prompt of so many tokens does not fit: by these words and fields clients know that they must shorten it.
ApiError context_error(std::size_t n_prompt, std::size_t n_ctx);
// The subject of an error that api_error() makes such a one of; `expected` and `found` begin with the numbers.
inline constexpr const char* kTooLong = "context";
// Whether an error is about that.
bool is_too_long(const Error& error);
void send_error(HttpExchange& exchange, const ApiError& error);
// The same in Anthropic's form.
nlohmann::json anthropic_error(const ApiError& error);

// One line of JSON, whatever bytes are in its texts.
std::string dumped(const nlohmann::json& json);
void send_json(HttpExchange& exchange, const nlohmann::json& json, int status = 200);

}  // namespace lacake::cli
