#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cctype>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "serve/exchange.h"
#include "serve/http.h"
#include "serve/random_id.h"

// What a request says before its body, and what a client is told whose request cannot be read. Part of http.cpp, which
// alone includes it: Boost.Beast takes too long to be compiled in two files.

namespace lacake::cli {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;

inline int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = (char)std::tolower((unsigned char)c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

inline std::string percent_decoded(std::string_view text, bool plus_is_space) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
      out += (char)(16 * hex_value(text[i + 1]) + hex_value(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

inline void split_target(std::string_view target, HttpRequest& request) {
  const std::size_t mark = target.find('?');
  request.path = percent_decoded(target.substr(0, mark), false);
  if (mark == target.npos) return;
  std::string_view rest = target.substr(mark + 1);
  while (!rest.empty()) {
    const std::string_view field = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), field.size() + 1));
    const std::size_t equals = field.find('=');
    const std::string_view value = equals == field.npos ? std::string_view() : field.substr(equals + 1);
    request.query[percent_decoded(field.substr(0, equals), true)] = percent_decoded(value, true);
  }
}

// What others may have to read in a log or a header.
inline bool is_harmless_id(std::string_view id) {
  constexpr std::size_t kLongest = 128;
  return !id.empty() && id.size() <= kLongest && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return c < 128 && (std::isalnum(c) || std::strchr("-_.:/+=@", c));
  });
}

// The head of a request, as far as it came.
inline HttpRequest head_of(const http::request<http::string_body>& message) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  split_target(std::string_view(message.target().data(), message.target().size()), request);
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return (char)std::tolower(c); });
    request.headers[std::move(name)] = std::string(field.value());
  }
  request.id = request.header("x-request-id");
  if (!is_harmless_id(request.id)) request.id = random_id("req_");
  return request;
}

// Of a request that cannot be read.
struct Refusal {
  int status = 400;
  std::string message;
};

// The most that is read of a body, and what sets it.
struct BodyLimit {
  std::size_t bytes = 0;
  const char* cause = "";
};

// The value of the header at which the reading stopped: it stands first in what is left.
inline std::string refused_value(const beast::flat_buffer& left) {
  constexpr std::size_t kLongest = 60;
  std::string_view line(static_cast<const char*>(left.data().data()), left.size());
  line = line.substr(0, line.find_first_of("\r\n"));
  line.remove_prefix(std::min(line.size(), line.find(':') == line.npos ? 0 : line.find(':') + 1));
  line.remove_prefix(std::min(line.size(), line.find_first_not_of(" \t")));
  return line.size() > kLongest ? std::string(line.substr(0, kLongest)) + "..." : std::string(line);
}

// None: the client has gone, or was too slow to be told anything.
inline std::optional<Refusal> refusal_of(const error_code& error, const http::request<http::string_body>& head,
                                         const beast::flat_buffer& left, std::size_t header_bytes,
                                         const BodyLimit& limit) {
  if (error == http::error::end_of_stream || error == asio::error::operation_aborted || error == asio::error::eof ||
      error == asio::error::connection_reset || error == http::error::partial_message ||
      error == beast::error::timeout) {
    return {};
  }
  if (error == http::error::body_limit) {
    const std::string length(head[http::field::content_length]);  // of chunks none is known
    return Refusal{413, fmt::format("body: expected at most {} bytes {}, found {}", limit.bytes, limit.cause,
                                    length.empty() ? "more" : length)};
  }
  if (error == http::error::header_limit) {
    return Refusal{431, fmt::format("headers: expected at most {} bytes together, found more", header_bytes)};
  }
  if (error == http::error::bad_content_length) {
    return Refusal{400, fmt::format("Content-Length: expected one number of bytes, found \"{}\"", refused_value(left))};
  }
  if (error == http::error::multiple_content_length) {
    return Refusal{400, fmt::format("Content-Length: expected one number of bytes, found \"{}\" beside \"{}\"",
                                    refused_value(left), std::string(head[http::field::content_length]))};
  }
  return Refusal{400, fmt::format("expected a request that is HTTP/1.1, found one with a {}", error.message())};
}

}  // namespace lacake::cli
