#include "serve/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>

namespace lacake::cli {
namespace {

constexpr std::string_view kIndex = "index.html";

struct Kind {
  std::string_view ending;
  const char* content_type;
};
constexpr Kind kKinds[] = {{".html", "text/html; charset=utf-8"},
                           {".css", "text/css; charset=utf-8"},
                           {".js", "text/javascript; charset=utf-8"},
                           {".svg", "image/svg+xml"}};

// Nothing but what this server sends may run, be shown or be asked, and no text ever becomes markup.
constexpr const char* kContentPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const char* content_type_of(std::string_view name) {
  const auto kind = std::ranges::find_if(kKinds, [&](const Kind& one) { return name.ends_with(one.ending); });
  return kind == std::end(kKinds) ? "application/octet-stream" : kind->content_type;
}

}  // namespace

const PageFile* page_file(std::string_view path) {
  constexpr std::string_view kFolder = "/page/";
  std::string_view name;
  if (path == "/") {
    name = kIndex;
  } else if (path.starts_with(kFolder) && path.substr(kFolder.size()) != kIndex) {
    name = path.substr(kFolder.size());
  }
  const auto files = page_files();
  const auto at = std::ranges::find(files, name, &PageFile::name);
  return at == files.end() ? nullptr : &*at;
}

void send_page(HttpExchange& exchange, const PageFile& file) {
  // A browser keeps what it has and asks each time: the page always is that of the program that answers.
  const std::string tag = fmt::format("\"{}\"", file.tag);
  const HttpExchange::Headers headers = {{"ETag", tag},
                                         {"Cache-Control", "no-cache"},
                                         {"Content-Security-Policy", kContentPolicy},
                                         {"X-Content-Type-Options", "nosniff"},
                                         {"Referrer-Policy", "no-referrer"}};
  const bool has_it = exchange.request().header("if-none-match").find(tag) != std::string::npos;
  exchange.send(has_it ? 304 : 200, content_type_of(file.name), has_it ? "" : std::string(file.bytes), headers);
}

}  // namespace lacake::cli
