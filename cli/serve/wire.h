#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>
#include <optional>
#include <utility>

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
    return tls_ ? tls_->async_read_some(buffers, std::forward<Token>(token))
                : tcp_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return tls_ ? tls_->async_write_some(buffers, std::forward<Token>(token))
                : tcp_.async_write_some(buffers, std::forward<Token>(token));
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
  boost::beast::tcp_stream tcp_;
  const std::shared_ptr<Tls> keys_;
  // OpenSSL takes one buffer at a time, and makes a record of each: small ones are put together before.
  std::optional<boost::beast::flat_stream<boost::asio::ssl::stream<boost::beast::tcp_stream&>>> tls_;
};

}  // namespace lacake::cli
