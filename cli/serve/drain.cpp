// POST /drain: the server takes no more requests and goes on with those that it has. Whoever runs it ends it then.

#include "serve/api.h"
#include "serve/sending.h"
#include "serve/telling.h"

namespace lacake::cli {

using nlohmann::json;

void begin_drain(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  // It cannot be undone, so whoever may chat may not do it.
  if (!api.is_operator(exchange->request())) {
    return send_error(*exchange, api_error(403, "/drain: expected the key of --admin-key"));
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
  api.scheduler().begin_drain(deadline, telling<std::size_t>(api, exchange, [](HttpExchange& to, std::size_t n_left) {
                                send_json(to, {{"status", "draining"}, {"requests", n_left}});
                              }));
}

}  // namespace lacake::cli
