// POST /drain: the server takes no more requests and goes on with those that it has. Whoever runs it ends it then.

#include "serve/api.h"

namespace lacake::cli {

using nlohmann::json;

void begin_drain(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  // Any web page can make a browser send this to a server on the same machine.
  if (api.options().keys.empty()) {
    return send_json(*exchange,
                     api_error(403, "permission_error", "/drain: expected a server with keys (--api-key)").body, 403);
  }
  const std::string& sent = exchange->request().body;
  const json body = sent.empty() ? json::object() : parse_body(sent);
  for (const auto& field : body.items()) {
    if (field.key() != "deadline_s") refuse_field(field.key(), "deadline_s, or nothing", field.value());
  }
  std::optional<std::chrono::milliseconds> deadline;
  if (const auto seconds = Fields(body).real("deadline_s", 0, 86'400)) {
    deadline = std::chrono::milliseconds((std::int64_t)(*seconds * 1e3));
  }
  api.drain();
  send_json(*exchange, {{"status", "draining"}, {"requests", api.scheduler().begin_drain(deadline)}});
}

}  // namespace lacake::cli
