#pragma once

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/stopwatch.h"
#include "serve/http.h"

namespace lacake::cli {

namespace asio = boost::asio;

// The answer on its way from any thread to the connection's.
class Exchange final : public HttpExchange, public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(asio::any_io_executor executor, HttpRequest request, std::size_t most_unsent, HttpServer::Recorder recorder)
      : executor_(executor), news_(executor), most_unsent_(most_unsent), recorder_(std::move(recorder)) {
    news_.expires_at(asio::steady_timer::time_point::max());
    record_.request = std::move(request);
    record_.time = std::chrono::system_clock::now();
  }
  // Who asked and who answers have both let go of it: all is known.
  ~Exchange() override {
    try {
      if (recorder_) recorder_(std::move(record_));
    } catch (const std::exception&) {  // no memory for a line
    }
  }

  const HttpRequest& request() const override { return record_.request; }
  // Whether it is about the headers alone, as load balancers ask.
  bool is_head() const { return record_.request.method == "HEAD"; }
  void send(int status, std::string content_type, std::string body, Headers headers) override {
    change([&] {
      if (begun_) return;
      head_ = Head{status, std::move(content_type), std::move(headers), false};
      begun_ = ended_ = true;
      put(std::move(body));
    });
  }
  void begin(int status, std::string content_type, Headers headers) override {
    change([&] {
      if (begun_) return;
      head_ = Head{status, std::move(content_type), std::move(headers), true};
      begun_ = true;
    });
  }
  void write(std::string piece) override {
    change([&] {
      if (begun_ && !ended_ && !piece.empty()) put(std::move(piece));
    });
  }
  void end() override {
    change([&] { ended_ = begun_; });
  }
  void note(nlohmann::json facts) override {
    const std::lock_guard lock(mutex_);
    record_.facts.update(facts);
  }
  void keep(std::shared_ptr<void> something) override {
    const std::lock_guard lock(mutex_);
    kept_ = std::move(something);
  }
  void when_gone(std::function<void()> call) override {
    bool now = false;
    {
      const std::lock_guard lock(mutex_);
      now = gone_;
      if (!now) when_gone_ = std::move(call);
    }
    if (now) call();
  }

  // --- for the connection ----------------------------------------------------------------------------------------

  struct Head {
    int status = 200;
    std::string content_type;
    Headers headers;
    bool streamed = false;
  };
  struct News {
    std::optional<Head> head;  // the first time
    std::string bytes;         // since the last time
    bool ended = false;
    bool flooded = false;  // the client does not take what is written
  };
  News take() {
    const std::lock_guard lock(mutex_);
    News news{.head = std::exchange(head_, std::nullopt),
              .ended = ended_,
              .flooded = n_unsent_ - largest_unsent_ > most_unsent_ && streamed_};
    if (news.head) streamed_ = news.head->streamed, record_.status = news.head->status;
    for (const std::string& piece : pieces_) news.bytes += piece;
    if (!is_head()) record_.bytes += news.bytes.size();
    pieces_.clear();
    n_unsent_ = largest_unsent_ = 0;
    return news;
  }
  asio::steady_timer& news() { return news_; }
  bool has_news() {
    const std::lock_guard lock(mutex_);
    return head_ || !pieces_.empty() || ended_;
  }
  void gone() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex_);
      if (gone_) return;
      gone_ = record_.gone = true;
      record_.ms = since_arrival_.ms();
      if (!ended_) call = std::move(when_gone_);
      when_gone_ = nullptr;
    }
    if (call) call();
  }
  void done() {
    const std::lock_guard lock(mutex_);
    if (!gone_) record_.ms = since_arrival_.ms();
    gone_ = true;
    when_gone_ = nullptr;
  }

 private:
  template <class Change>
  void change(const Change& change) {
    {
      const std::lock_guard lock(mutex_);
      if (gone_ || ended_) return;
      change();
    }
    asio::post(executor_, [self = shared_from_this()] { self->news_.cancel(); });
  }
  void put(std::string piece) {
    n_unsent_ += piece.size();
    largest_unsent_ = std::max(largest_unsent_, piece.size());
    pieces_.push_back(std::move(piece));
  }

  asio::any_io_executor executor_;
  asio::steady_timer news_;  // cancelled when there is something new
  const std::size_t most_unsent_;
  const HttpServer::Recorder recorder_;
  const Stopwatch since_arrival_;
  HttpRecord record_;  // its request stays as it is
  std::mutex mutex_;
  std::optional<Head> head_;
  std::deque<std::string> pieces_;
  // Bytes not taken yet: of all pieces, and of the largest, which alone never counts as a flood.
  std::size_t n_unsent_ = 0, largest_unsent_ = 0;
  bool begun_ = false, ended_ = false, gone_ = false, streamed_ = false;
  std::function<void()> when_gone_;
  std::shared_ptr<void> kept_;
};

}  // namespace lacake::cli
