#pragma once

// HTTP/1.1 for `lacake serve`, over Boost.Beast. A request comes whole, within limits; its answer goes out whole or as
// a stream, from any thread.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lacake::cli {

struct HttpRequest {
  std::string id;      // the client's own in X-Request-Id, if it is harmless, else one of ours; every answer has it
  std::string client;  // its address
  std::string method;  // "GET"
  std::string path;    // without query, percent-decoded
  std::map<std::string, std::string> query;
  std::map<std::string, std::string> headers;  // names in small letters
  std::string body;

  std::string header(const std::string& name) const {
    const auto at = headers.find(name);
    return at == headers.end() ? "" : at->second;
  }
};

struct HttpLimits {
  std::size_t header_bytes = 16 << 10;
  std::size_t body_bytes = 64 << 20;
  std::size_t connections = 512;
  // For a whole request from its first byte, however slowly it drips, and for the handshake of TLS; and for a
  // connection without a request.
  std::chrono::seconds request_time{30};
  std::chrono::seconds idle_time{120};
  // For a client to take what was written.
  std::chrono::seconds write_time{30};
  std::size_t unsent_bytes = 8 << 20;
  std::vector<std::pair<std::string, std::string>> headers = {};  // of every answer
  // Asked with the head of a request, by the server's thread. Of whom it does not trust, few bytes are read: as many as
  // a client without a key needs to be told so. None: everybody is trusted.
  std::function<bool(const HttpRequest&)> trusts = {};
  std::size_t untrusted_body_bytes = 64 << 10;
};

// What became of a request, for a log.
struct HttpRecord {
  HttpRequest request;
  std::chrono::system_clock::time_point time;  // when it had arrived
  double ms = 0;                               // until the last byte of its answer was on its way
  int status = 0;                              // 0: none was sent
  std::uint64_t bytes = 0;                     // of the answer's body
  bool gone = false;                           // the client went before it had all of it
  nlohmann::json facts = nlohmann::json::object();
};

// A request and the way back. Members may be called from any thread; what comes after the client has gone is dropped.
class HttpExchange {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;

  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;
  // The whole answer.
  virtual void send(int status, std::string content_type, std::string body, Headers headers = {}) = 0;
  // A stream of pieces.
  virtual void begin(int status, std::string content_type, Headers headers = {}) = 0;
  virtual void write(std::string piece) = 0;
  virtual void end() = 0;
  // Facts for its record, an object, beside those that are there already. Those that come after the end are in it too,
  // as long as somebody has the exchange.
  virtual void note(nlohmann::json facts) = 0;
  // Lives as long as this does: until the answer was sent and nobody has anything to add. A later one takes its place.
  virtual void keep(std::shared_ptr<void> something) = 0;
  // Called once, by the server's thread, if the client goes before the answer has ended. A later call takes its place.
  virtual void when_gone(std::function<void()> call) = 0;
};

// Certificate and key of a server.
struct Tls;
// Throws Error(kInput) naming the file that cannot be used. TLS 1.2 and newer.
std::shared_ptr<Tls> read_tls(const std::string& key_file, const std::string& cert_file);

// Listens until it goes. Requests are handed over by a thread of its own.
class HttpServer {
 public:
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;
  // By whichever thread lets go of an exchange last, so it must not wait. Outlives the server and its exchanges.
  using Recorder = std::function<void(HttpRecord)>;

  // Port 0: any that is free. `tls`: none for plain HTTP. Throws Error(kUsage) where the address cannot be used.
  HttpServer(const std::string& host, int port, const HttpLimits& limits, std::shared_ptr<Tls> tls, Handler handler,
             Recorder recorder);
  // Closes all connections.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  // No new connections; those that are open end with their answers, or at the deadline. No handler is called after it;
  // exchanges may still be written to, which does nothing.
  void close(std::chrono::milliseconds deadline);

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace lacake::cli
