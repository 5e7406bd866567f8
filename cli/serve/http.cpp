#include "serve/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/version.hpp>
#include <optional>
#include <thread>

#include "lacake/error.h"
#include "serve/exchange.h"
#include "serve/random_id.h"
#include "serve/request_reading.h"
#include "serve/wire.h"

namespace lacake::cli {
namespace {

using asio::ip::tcp;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
// For a client to say that TLS ends, when we have.
constexpr std::chrono::seconds kGoodbye{1};

// Two names: OpenAI's clients read the first, Anthropic's the second.
template <class Response>
void set_id(Response& response, const std::string& id) {
  response.set("X-Request-Id", id);
  response.set("Request-Id", id);
}

// What a client's coroutine shares with what it waits for.
struct Connection {
  Connection(tcp::socket socket, std::shared_ptr<Tls> tls)
      : wire(std::move(socket), std::move(tls)), news(wire.get_executor()) {}

  Wire wire;
  beast::flat_buffer buffer;
  // While no request is read, the next one's first byte is. So a client that closes is seen at once, also in the middle
  // of its answer, and one that sends its next request early is not disturbed.
  bool reads_ahead = false;
  bool closed = false;                  // by the client
  asio::steady_timer news;              // cancelled when either changes
  std::shared_ptr<Exchange> answering;  // the request that is being answered
};

void read_ahead(const std::shared_ptr<Connection>& c) {
  if (c->reads_ahead || c->buffer.size() > 0) return;
  c->reads_ahead = true;
  c->wire.tcp().expires_never();
  c->wire.async_read_some(c->buffer.prepare(1), [c](error_code error, std::size_t n) {
    c->reads_ahead = false;
    c->buffer.commit(n);
    c->closed = error || n == 0;
    c->news.cancel();
    if (!c->closed || !c->answering) return;
    c->answering->gone();
    c->answering->news().cancel();
  });
}

}  // namespace

struct HttpServer::State {
  State(const HttpLimits& l, std::shared_ptr<Tls> t, Handler h, Recorder r)
      : limits(l), tls(std::move(t)), handler(std::move(h)), recorder(std::move(r)), acceptor(io) {}

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
      asio::co_spawn(io, connection(std::make_shared<Connection>(std::move(socket), tls)),
                     [this](std::exception_ptr) { --n_connections; });
    }
  }

  asio::awaitable<void> connection(std::shared_ptr<Connection> c) {
    Wire& wire = c->wire;
    error_code ignored;
    wire.tcp().socket().set_option(tcp::no_delay(true), ignored);
    if (co_await opened(*c)) co_await requests(c);
    wire.tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
    wire.tcp().close();
  }

  // False: no TLS came of it.
  asio::awaitable<bool> opened(Connection& c) {
    if (!c.wire.has_tls()) co_return true;
    c.wire.tcp().expires_after(limits.request_time);
    auto [error] = co_await c.wire.async_handshake(kToken);
    co_return !error;
  }

  // Tells a client of TLS that this is the end, and no cut. It has a moment to say the same.
  asio::awaitable<void> say_goodbye(const std::shared_ptr<Connection>& c) {
    if (!c->wire.has_tls()) co_return;
    asio::steady_timer limit(io, kGoodbye);
    limit.async_wait([c](error_code error) {
      if (!error) c->wire.tcp().close();
    });
    (void)co_await c->wire.async_shutdown(kToken);
  }

  // The first byte may take its time. False: none came.
  asio::awaitable<bool> has_first_byte(const std::shared_ptr<Connection>& c) {
    read_ahead(c);
    c->news.expires_after(limits.idle_time);
    while (c->reads_ahead) {
      auto [error] = co_await c->news.async_wait(kToken);
      if (!error) co_return false;
    }
    co_return !c->closed;
  }

  asio::awaitable<void> requests(std::shared_ptr<Connection> c) {
    Wire& stream = c->wire;
    beast::flat_buffer& buffer = c->buffer;
    error_code unknown;
    const std::string client = stream.tcp().socket().remote_endpoint(unknown).address().to_string();
    while (co_await has_first_byte(c)) {
      // All of the request together may not.
      stream.tcp().expires_after(limits.request_time);
      http::request_parser<http::string_body> parser;
      parser.header_limit((std::uint32_t)limits.header_bytes);
      BodyLimit body_limit{limits.body_bytes, "(--body-size)"};
      parser.body_limit(body_limit.bytes);
      error_code error;
      {
        auto [header_error, n] = co_await http::async_read_header(stream, buffer, parser, kToken);
        error = header_error;
      }
      HttpRequest request;
      if (!error) request = head_of(parser.get());
      if (!error && limits.trusts && !limits.trusts(request)) {
        if (limits.untrusted_body_bytes < body_limit.bytes) {
          body_limit = {limits.untrusted_body_bytes, "from a client without a key of this server"};
        }
        parser.body_limit(body_limit.bytes);
        const auto length = parser.content_length();
        if (length && *length > body_limit.bytes) error = http::error::body_limit;
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
        auto refusal = refusal_of(error, parser.get(), buffer, limits.header_bytes, body_limit);
        if (refusal) co_await refuse(stream, std::move(*refusal), parser, client);
        break;
      }
      http::request<http::string_body> message = parser.release();
      request.client = client;
      request.body = std::move(message.body());
      const bool keep_alive = message.keep_alive();
      c->answering =
          std::make_shared<Exchange>(stream.get_executor(), std::move(request), limits.unsent_bytes, recorder);
      ++n_answering;
      handler(c->answering);
      const bool answered = co_await answer(c, *c->answering, message.version(), keep_alive);
      --n_answering;
      c->answering.reset();
      if (!answered || !keep_alive || !acceptor.is_open()) break;
    }
    co_await say_goodbye(c);
  }

  // A request that cannot be read.
  asio::awaitable<void> refuse(Wire& stream, Refusal refusal, http::request_parser<http::string_body>& parser,
                               const std::string& client) {
    http::response<http::string_body> response((http::status)refusal.status, 11);
    response.set(http::field::content_type, "application/json");
    response.keep_alive(false);
    const nlohmann::json body = {
        {"error", {{"code", refusal.status}, {"message", refusal.message}, {"type", "invalid_request_error"}}}};
    response.body() = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    HttpRecord record;
    if (parser.is_header_done()) record.request = head_of(parser.get());
    if (record.request.id.empty()) record.request.id = random_id("req_");
    set_id(response, record.request.id);
    response.prepare_payload();
    record.request.client = client;
    record.time = std::chrono::system_clock::now();
    record.status = refusal.status;
    record.facts["error"] = std::move(refusal.message);
    record.bytes = response.body().size();
    stream.tcp().expires_after(limits.write_time);
    (void)co_await http::async_write(stream, response, kToken);
    if (recorder) recorder(std::move(record));
  }

  // False: the connection is of no use any more.
  asio::awaitable<bool> answer(const std::shared_ptr<Connection>& c, Exchange& exchange, unsigned version,
                               bool keep_alive) {
    Wire& stream = c->wire;
    read_ahead(c);
    bool fine = true, chunked = false;
    while (true) {
      Exchange::News news = exchange.take();
      if (c->closed || news.flooded) {
        fine = false;
        break;
      }
      stream.tcp().expires_after(limits.write_time);
      error_code error;
      if (news.head && !news.head->streamed) {
        http::response<http::string_body> response =
            answer_head<http::string_body>(exchange, *news.head, version, keep_alive);
        response.body() = std::move(news.bytes);
        response.prepare_payload();
        if (exchange.is_head()) {  // with the length of a body that is not sent
          http::response_serializer<http::string_body> serializer(response);
          auto [write_error, n] = co_await http::async_write_header(stream, serializer, kToken);
          fine = !write_error;
          break;
        }
        fine = co_await written(stream, response);
        break;
      }
      if (news.head) {
        chunked = version >= 11;
        http::response<http::empty_body> response =
            answer_head<http::empty_body>(exchange, *news.head, version, keep_alive && chunked);
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
        if (fine) exchange.done();
        fine = fine && chunked;  // without chunks the end of the connection is that of the answer
        break;
      }
      stream.tcp().expires_never();
      // Whoever cancels the timer does so by this thread, so nothing is missed between looking and waiting.
      if (!c->closed && !exchange.has_news()) (void)co_await exchange.news().async_wait(kToken);
    }
    fine ? exchange.done() : exchange.gone();
    co_return fine;
  }

  // Writes in pieces and restarts the time limit before each, so that a large body may take longer than write_time.
  // False: a piece was not taken in time, or the connection failed.
  asio::awaitable<bool> written(Wire& stream, http::response<http::string_body>& response) {
    http::response_serializer<http::string_body> serializer(response);
    while (!serializer.is_done()) {
      stream.tcp().expires_after(limits.write_time);
      auto [error, n] = co_await http::async_write_some(stream, serializer, kToken);
      if (error) co_return false;
    }
    co_return true;
  }

  template <class Body>
  http::response<Body> answer_head(const Exchange& exchange, const Exchange::Head& head, unsigned version,
                                   bool keep_alive) const {
    http::response<Body> response((http::status)head.status, version);
    response.set(http::field::server, "lacake");
    set_id(response, exchange.request().id);
    response.set(http::field::content_type, head.content_type);
    if (head.streamed) response.set(http::field::cache_control, "no-cache");
    for (const auto& [name, value] : limits.headers) response.set(name, value);
    for (const auto& [name, value] : head.headers) response.set(name, value);
    response.keep_alive(keep_alive);
    return response;
  }

  const HttpLimits limits;
  const std::shared_ptr<Tls> tls;
  const Handler handler;
  const Recorder recorder;
  asio::io_context io{1};
  tcp::acceptor acceptor;
  std::size_t n_connections = 0;  // of the thread
  std::atomic<std::size_t> n_answering = 0;
  std::thread thread;
};

HttpServer::HttpServer(const std::string& host, int port, const HttpLimits& limits, std::shared_ptr<Tls> tls,
                       Handler handler, Recorder recorder)
    : state_(std::make_unique<State>(limits, std::move(tls), std::move(handler), std::move(recorder))) {
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
