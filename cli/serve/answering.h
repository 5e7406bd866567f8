#pragma once

// What the clients of all APIs do: a request on its way to the scheduler, and what is told of its answer.

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

#include "base/stopwatch.h"
#include "serve/api.h"
#include "serve/sending.h"

namespace lacake::cli {

// Tells times and errors of one request. Its functions are called as those of a RequestClient.
class Answering {
 protected:
  Answering(Api& api, std::shared_ptr<HttpExchange> exchange, bool stream)
      : api_(api), exchange_(std::move(exchange)), stream_(stream) {}
  virtual ~Answering() = default;
  // In tokens, for an error about it.
  virtual std::size_t prompt_length() const = 0;

  void count_token();
  // It has all of its answers: noted for the log.
  void answered(std::span<const Served> all);
  void answered(const Served& served) { answered(std::span(&served, 1)); }
  // As the client reads it, and noted for the log. Of a prompt that is too long, its numbers.
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
  bool parses = false;   // whether the answer may be anything but its text as content
  nlohmann::json shown;  // `__verbose` of the answer, where it is wished
};

// Answers {"input_tokens"} of a chat that is not asked. Throws as ChatCall.
void count_tokens(const Api& api, HttpExchange& exchange, const Fields& fields, const std::vector<Message>& messages,
                  ChatOptions chat);

}  // namespace lacake::cli
