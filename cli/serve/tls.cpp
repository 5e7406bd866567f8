#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "lacake/error.h"
#include "serve/wire.h"

namespace lacake::cli {
namespace {

// A file, and the flag that names it.
struct Named {
  const char* flag;
  const std::string& file;
};

[[noreturn]] void refuse(const Named& what, const std::string& expected, const std::string& found) {
  throw Error({.subject = fmt::format("{} {}", what.flag, what.file), .expected = expected, .found = found});
}

// The newest of OpenSSL's reasons, and none is left for whoever asks next.
std::string reason() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* const text = ERR_reason_error_string(code);
  return text ? text : "nothing that can be read";
}

// OpenSSL names no file, and says of one that is not there what it says of one without PEM.
// Of an empty one it gives no reason.
void require_readable(const Named& what, const char* expected) {
  std::ifstream in(what.file);
  if (!in) refuse(what, expected, std::strerror(errno));
  if (in.peek() == std::ifstream::traits_type::eof()) refuse(what, expected, "an empty file");
}

}  // namespace

std::shared_ptr<Tls> read_tls(const std::string& key_file, const std::string& cert_file) {
  constexpr const char* kCertificate = "a certificate in PEM, those that signed it behind it";
  constexpr const char* kKey = "a private key in PEM, without a pass phrase";
  const Named key{"--ssl-key-file", key_file}, cert{"--ssl-cert-file", cert_file};
  auto tls = std::make_shared<Tls>();
  SSL_CTX* const context = tls->context.native_handle();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  // Nobody is asked for a pass phrase: a server starts without a terminal.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return -1; });
  require_readable(cert, kCertificate);
  if (SSL_CTX_use_certificate_chain_file(context, cert_file.c_str()) != 1) refuse(cert, kCertificate, reason());
  require_readable(key, kKey);
  if (SSL_CTX_use_PrivateKey_file(context, key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    const bool other = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH ||
                       ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_TYPE_MISMATCH;
    const std::string found = reason();
    if (other) refuse(key, "the key of " + cert_file, "another's");
    refuse(key, kKey, found);
  }
  return tls;
}

}  // namespace lacake::cli
