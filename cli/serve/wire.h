#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "serve/http.h"

namespace lacake::cli {

struct Tls {
  boost::asio::ssl::context context{boost::asio::ssl::context::tls_server};
};

// The bytes of a connection, as they are or within TLS: a stream as Beast and Asio want one. It chooses at run time, so
// that what reads and writes HTTP over it is compiled once. The deadlines of its socket hold for both: a step of TLS is
// reading and writing there.
class Wire {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;

  // `tls`: none for plain bytes.
  Wire(boost::asio::ip::tcp::socket socket, std::shared_ptr<Tls> tls) : tcp_(std::move(socket)), keys_(std::move(tls)) {
    if (keys_) tls_.emplace(tcp_, keys_->context);
  }

  executor_type get_executor() { return tcp_.get_executor(); }
  boost::beast::tcp_stream& tcp() { return tcp_; }
  bool has_tls() const { return tls_.has_value(); }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    const auto begin = [this](auto handler, const Into& into) { read_some(into, done(std::move(handler))); };
    return boost::asio::async_initiate<Token, Signature>(begin, token, list<Into>(buffers));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    const auto begin = [this](auto handler, const From& from) { write_some(from, done(std::move(handler))); };
    return boost::asio::async_initiate<Token, Signature>(begin, token, list<From>(buffers));
  }
  // REQUIRES has_tls().
  template <class Token>
  auto async_handshake(Token&& token) {
    return tls_->next_layer().async_handshake(boost::asio::ssl::stream_base::server, std::forward<Token>(token));
  }
  template <class Token>
  auto async_shutdown(Token&& token) {
    return tls_->next_layer().async_shutdown(std::forward<Token>(token));
  }

 private:
  // Every operation of Beast has handlers and buffers of types of its own. Behind these all are of one, and what TCP
  // and TLS make of them, most of what a compiler has to do here, is compiled once instead of for each.
  using Signature = void(boost::system::error_code, std::size_t);
  using Done = boost::asio::executor_binder<boost::asio::any_completion_handler<Signature>, executor_type>;
  using Into = std::vector<boost::asio::mutable_buffer>;
  using From = std::vector<boost::asio::const_buffer>;

  template <class Handler>
  Done done(Handler handler) {
    return boost::asio::bind_executor(get_executor(),
                                      boost::asio::any_completion_handler<Signature>(std::move(handler)));
  }
  template <class List, class Buffers>
  static List list(const Buffers& buffers) {
    return List(boost::asio::buffer_sequence_begin(buffers), boost::asio::buffer_sequence_end(buffers));
  }
  void read_some(const Into& into, Done done) {
    tls_ ? tls_->async_read_some(into, std::move(done)) : tcp_.async_read_some(into, std::move(done));
  }
  void write_some(const From& from, Done done) {
    tls_ ? tls_->async_write_some(from, std::move(done)) : tcp_.async_write_some(from, std::move(done));
  }

  boost::beast::tcp_stream tcp_;
  const std::shared_ptr<Tls> keys_;
  // OpenSSL takes one buffer at a time, and makes a record of each: small ones are put together before.
  std::optional<boost::beast::flat_stream<boost::asio::ssl::stream<boost::beast::tcp_stream&>>> tls_;
};

}  // namespace lacake::cli
