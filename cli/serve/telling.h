#pragma once

#include <memory>
#include <utility>
#include <variant>

#include "serve/api.h"
#include "serve/sending.h"

namespace lacake::cli {

// Sends what an order came to, or its error. `send` gets the exchange and the result, by a thread that may take its
// time.
template <class Result, class Send>
Told<Result> telling(Api& api, std::shared_ptr<HttpExchange> exchange, Send send) {
  return [&worker = api.worker(), exchange = std::move(exchange),
          send = std::move(send)](std::variant<Result, Error> told) {
    worker.add([exchange, send, told = std::move(told)]() mutable {
      try {
        if (const Error* const error = std::get_if<Error>(&told)) return send_error(*exchange, api_error(*error));
        send(*exchange, std::move(std::get<Result>(told)));
      } catch (const std::exception& error) {  // no memory for it
        send_error(*exchange, api_error(500, error.what()));
      }
    });
  };
}

}  // namespace lacake::cli
