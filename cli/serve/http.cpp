#include "serve/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/version.hpp>
#include <cctype>
#include <cstring>
#include <deque>
#include <thread>

#include "lacake/error.h"

namespace lacake::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = (char)std::tolower((unsigned char)c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string percent_decoded(std::string_view text, bool plus_is_space) {
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

void split_target(std::string_view target, HttpRequest& request) {
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

// The answer on its way from any thread to the connection's.
class Exchange final : public HttpExchange, public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(asio::any_io_executor executor, HttpRequest request, std::size_t most_unsent)
      : executor_(executor), news_(executor), request_(std::move(request)), most_unsent_(most_unsent) {
    news_.expires_at(asio::steady_timer::time_point::max());
  }

  const HttpRequest& request() const override { return request_; }
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
    News news{
        .head = std::exchange(head_, std::nullopt), .ended = ended_, .flooded = n_unsent_ > most_unsent_ && streamed_};
    if (news.head) streamed_ = news.head->streamed;
    for (const std::string& piece : pieces_) news.bytes += piece;
    pieces_.clear();
    n_unsent_ = 0;
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
      gone_ = true;
      if (!ended_) call = std::move(when_gone_);
      when_gone_ = nullptr;
    }
    if (call) call();
  }
  void done() {
    const std::lock_guard lock(mutex_);
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
    pieces_.push_back(std::move(piece));
  }

  asio::any_io_executor executor_;
  asio::steady_timer news_;  // cancelled when there is something new
  const HttpRequest request_;
  const std::size_t most_unsent_;
  std::mutex mutex_;
  std::optional<Head> head_;
  std::deque<std::string> pieces_;
  std::size_t n_unsent_ = 0;
  bool begun_ = false, ended_ = false, gone_ = false, streamed_ = false;
  std::function<void()> when_gone_;
};

}  // namespace

struct HttpServer::State {
  State(const HttpLimits& l, Handler h) : limits(l), handler(std::move(h)), acceptor(io) {}

  void listen(const std::string& host, int port) {
    error_code error;
    tcp::resolver resolver(io);
    const auto found = resolver.resolve(host, std::to_string(port), tcp::resolver::passive, error);
    if (!error && !found.empty()) {
      const tcp::endpoint endpoint = found.begin()->endpoint();
      acceptor.open(endpoint.protocol(), error);
      if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
      if (!error) acceptor.bind(endpoint, error);
      if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    }
    if (error) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = fmt::format("{}:{}", host, port),
                   .expected = "an address to listen on",
                   .found = error.message()});
    }
  }

  asio::awaitable<void> accept() {
    while (acceptor.is_open()) {
      auto [error, socket] = co_await acceptor.async_accept(kToken);
      if (error == asio::error::operation_aborted) co_return;
      if (error) {  // too many open files, say
        asio::steady_timer pause(io, std::chrono::milliseconds(50));
        (void)co_await pause.async_wait(kToken);
        continue;
      }
      if (n_connections >= limits.connections) continue;  // closed at once
      ++n_connections;
      asio::co_spawn(io, connection(beast::tcp_stream(std::move(socket))),
                     [this](std::exception_ptr) { --n_connections; });
    }
  }

  asio::awaitable<void> connection(beast::tcp_stream stream) {
    beast::flat_buffer buffer;
    error_code ignored;
    stream.socket().set_option(tcp::no_delay(true), ignored);
    while (true) {
      // The first byte may take its time, all of the request together may not.
      if (buffer.size() == 0) {
        stream.expires_after(limits.idle_time);
        char first = 0;
        auto [error, n] = co_await stream.async_read_some(asio::buffer(&first, 1), kToken);
        if (error || n == 0) break;
        std::memcpy(buffer.prepare(1).data(), &first, 1);
        buffer.commit(1);
      }
      stream.expires_after(limits.request_time);
      http::request_parser<http::string_body> parser;
      parser.header_limit((std::uint32_t)limits.header_bytes);
      parser.body_limit(limits.body_bytes);
      error_code error;
      {
        auto [header_error, n] = co_await http::async_read_header(stream, buffer, parser, kToken);
        error = header_error;
      }
      if (!error && beast::iequals(parser.get()[http::field::expect], "100-continue")) {
        http::response<http::empty_body> go_on(http::status::continue_, parser.get().version());
        auto [write_error, n] = co_await http::async_write(stream, go_on, kToken);
        error = write_error;
      }
      if (!error) {
        auto [body_error, n] = co_await http::async_read(stream, buffer, parser, kToken);
        error = body_error;
      }
      if (error) {
        co_await refuse(stream, error);
        break;
      }
      http::request<http::string_body> message = parser.release();
      HttpRequest request;
      request.method = std::string(message.method_string());
      split_target(std::string_view(message.target().data(), message.target().size()), request);
      for (const auto& field : message) {
        std::string name(field.name_string());
        std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return (char)std::tolower(c); });
        request.headers[std::move(name)] = std::string(field.value());
      }
      request.body = std::move(message.body());
      const bool keep_alive = message.keep_alive();
      stream.expires_never();
      const auto exchange = std::make_shared<Exchange>(stream.get_executor(), std::move(request), limits.unsent_bytes);
      ++n_answering;
      handler(exchange);
      const bool answered = co_await answer(stream, buffer, *exchange, message.version(), keep_alive);
      --n_answering;
      if (!answered || !keep_alive || !acceptor.is_open()) break;
    }
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream.close();
  }

  // A request that cannot be read.
  asio::awaitable<void> refuse(beast::tcp_stream& stream, error_code error) {
    int status = 400;
    const char* what = "a request that is HTTP/1.1";
    if (error == http::error::end_of_stream || error == asio::error::operation_aborted || error == asio::error::eof ||
        error == asio::error::connection_reset || error == http::error::partial_message) {
      co_return;
    }
    if (error == beast::error::timeout) co_return;
    if (error == http::error::body_limit) status = 413, what = "a smaller body";
    if (error == http::error::header_limit) status = 431, what = "smaller headers";
    http::response<http::string_body> response((http::status)status, 11);
    response.set(http::field::content_type, "application/json");
    response.keep_alive(false);
    response.body() = fmt::format(
        "{{\"error\":{{\"code\":{},\"message\":\"expected {}\",\"type\":\"invalid_request_error\"}}}}", status, what);
    response.prepare_payload();
    stream.expires_after(limits.write_time);
    (void)co_await http::async_write(stream, response, kToken);
  }

  // False: the connection is of no use any more.
  asio::awaitable<bool> answer(beast::tcp_stream& stream, beast::flat_buffer& buffer, Exchange& exchange,
                               unsigned version, bool keep_alive) {
    // A client that closes is seen at once, one that sends its next request early is not disturbed.
    auto alive = std::make_shared<bool>(true);
    const auto watch = [&exchange, &stream, alive](error_code error) {
      if (!*alive || error == asio::error::operation_aborted) return;
      error_code unread;
      if (!error && stream.socket().available(unread) > 0 && !unread) return;
      *alive = false;
      exchange.gone();
      exchange.news().cancel();
    };
    if (buffer.size() == 0) stream.socket().async_wait(tcp::socket::wait_read, watch);
    bool fine = true, chunked = false;
    while (true) {
      Exchange::News news = exchange.take();
      if (!*alive || news.flooded) {
        fine = false;
        break;
      }
      stream.expires_after(limits.write_time);
      error_code error;
      if (news.head && !news.head->streamed) {
        http::response<http::string_body> response = head_of<http::string_body>(*news.head, version, keep_alive);
        response.body() = std::move(news.bytes);
        response.prepare_payload();
        auto [write_error, n] = co_await http::async_write(stream, response, kToken);
        fine = !write_error;
        break;
      }
      if (news.head) {
        chunked = version >= 11;
        http::response<http::empty_body> response =
            head_of<http::empty_body>(*news.head, version, keep_alive && chunked);
        if (chunked) response.chunked(true);
        http::response_serializer<http::empty_body> serializer(response);
        auto [write_error, n] = co_await http::async_write_header(stream, serializer, kToken);
        error = write_error;
      }
      if (!error && !news.bytes.empty()) {
        if (chunked) {
          auto [write_error, n] =
              co_await asio::async_write(stream, http::make_chunk(asio::buffer(news.bytes)), kToken);
          error = write_error;
        } else {
          auto [write_error, n] = co_await asio::async_write(stream, asio::buffer(news.bytes), kToken);
          error = write_error;
        }
      }
      if (error) {
        fine = false;
        break;
      }
      if (news.ended) {
        if (chunked) {
          auto [write_error, n] = co_await asio::async_write(stream, http::make_chunk_last(), kToken);
          fine = !write_error;
        }
        fine = fine && chunked;
        break;
      }
      stream.expires_never();
      // Whoever cancels the timer does so by this thread, so nothing is missed between looking and waiting.
      if (*alive && !exchange.has_news()) (void)co_await exchange.news().async_wait(kToken);
    }
    *alive = false;
    error_code ignored;
    stream.socket().cancel(ignored);
    fine ? exchange.done() : exchange.gone();
    co_return fine;
  }

  template <class Body>
  http::response<Body> head_of(const Exchange::Head& head, unsigned version, bool keep_alive) const {
    http::response<Body> response((http::status)head.status, version);
    response.set(http::field::server, "lacake");
    response.set(http::field::content_type, head.content_type);
    if (head.streamed) response.set(http::field::cache_control, "no-cache");
    for (const auto& [name, value] : limits.headers) response.set(name, value);
    for (const auto& [name, value] : head.headers) response.set(name, value);
    response.keep_alive(keep_alive);
    return response;
  }

  const HttpLimits limits;
  const Handler handler;
  asio::io_context io{1};
  tcp::acceptor acceptor;
  std::size_t n_connections = 0;  // of the thread
  std::atomic<std::size_t> n_answering = 0;
  std::thread thread;
};

HttpServer::HttpServer(const std::string& host, int port, const HttpLimits& limits, Handler handler)
    : state_(std::make_unique<State>(limits, std::move(handler))) {
  state_->listen(host, port);
  asio::co_spawn(state_->io, state_->accept(), asio::detached);
  state_->thread = std::thread([this] { state_->io.run(); });
}

HttpServer::~HttpServer() { close(std::chrono::milliseconds(0)); }

int HttpServer::port() const {
  error_code ignored;
  return state_->acceptor.local_endpoint(ignored).port();
}

void HttpServer::close(std::chrono::milliseconds deadline) {
  if (!state_->thread.joinable()) return;
  asio::post(state_->io, [this] {
    error_code ignored;
    state_->acceptor.close(ignored);
  });
  const auto until = std::chrono::steady_clock::now() + deadline;
  while (state_->n_answering > 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  state_->io.stop();
  state_->thread.join();
}

}  // namespace lacake::cli
