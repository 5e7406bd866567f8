#include <algorithm>
#include <map>

#include "serve/answer_facts.h"
#include "serve/api.h"
#include "serve/sending.h"
#include "serve/telling.h"
#include "text/utf8.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

// The name that stands in the path.
ConversationName named(const Api& api, const HttpRequest& request) {
  constexpr std::string_view kBefore = "/v1/sessions/";
  const std::string rest = request.path.substr(kBefore.size());
  return {.id = rest.substr(0, rest.find('/')), .owner = api.owner_of(request)};
}

// Whoever waits for a copy has his place until he has it, also where he has gone meanwhile.
Told<RestoredConversation> telling_restored(Api& api, std::shared_ptr<HttpExchange> exchange) {
  const auto send = [place = api.begin_copy()](HttpExchange& to, const RestoredConversation& c) {
    send_json(to,
              {{"id", c.id},
               {"object", "session"},
               {"lacake", {{"policy", c.policy}, {"kv_budget", c.budget}, {"kv_type", c.types}}}},
              201);
  };
  return telling<RestoredConversation>(api, std::move(exchange), send);
}

// The client's own name for a conversation, as requests say it in "lacake": {"session": ...}.
const std::string& require_key(const std::string& key, const char* where) {
  if (!key.empty()) return key;
  throw Error(
      {.kind = Error::Kind::kUsage, .subject = where, .expected = "the new conversation's key", .found = "none"});
}

// Of a layer: all positions that are held, and how many of its KV heads hold each.
json layer_json(std::size_t layer, const std::vector<std::vector<std::int64_t>>& heads, std::size_t n_tokens) {
  std::vector<int> n_heads(n_tokens);
  for (const auto& positions : heads) {
    for (const std::int64_t position : positions) ++n_heads.at((std::size_t)position);
  }
  json positions = json::array(), held_by = json::array();
  for (std::size_t i = 0; i < n_tokens; ++i) {
    if (n_heads[i] == 0) continue;
    positions.push_back(i);
    held_by.push_back(n_heads[i]);
  }
  return {
      {"layer", layer}, {"n_heads", heads.size()}, {"positions", std::move(positions)}, {"heads", std::move(held_by)}};
}

}  // namespace

// Those in memory, then those that are in the store alone; of the one who asks.
void list_sessions(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const std::string owner = api.owner_of(exchange->request());
  std::map<std::string, const StoredConversation*> on_disk;
  const std::vector<StoredConversation> stored = api.scheduler().stored(owner);
  for (const StoredConversation& c : stored) on_disk[c.id] = &c;
  json list = json::array();
  for (const SchedulerStatus::Conversation& c : api.scheduler().status().conversations) {
    if (!Scheduler::is_of(c.id, owner)) continue;
    json session = session_json(c);
    if (const auto at = on_disk.find(c.id); at != on_disk.end()) {
      session["file_bytes"] = at->second->bytes;
      on_disk.erase(at);
    }
    list.push_back(std::move(session));
  }
  for (const auto& [id, c] : on_disk) {
    const auto since = std::chrono::duration_cast<std::chrono::seconds>(c->last_use.time_since_epoch());
    list.push_back({{"id", id},
                    {"object", "session"},
                    {"state", "disk"},
                    {"running", false},
                    {"file_bytes", c->bytes},
                    {"last_use", since.count()}});
  }
  send_json(*exchange, {{"object", "list"}, {"data", std::move(list)}});
}

void session_cache(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const ConversationName name = named(api, exchange->request());
  const Model& model = api.model();
  const auto send = [&model, id = name.id](HttpExchange& to, const ConversationView& view) {
    json tokens = json::array(), layers = json::array();
    Utf8Stream characters;  // one that lies in several tokens stands with its last
    for (const Token token : view.tokens) tokens.push_back(characters.push(model.piece(token, true)));
    for (std::size_t i = 0; i < view.kept.size(); ++i)
      layers.push_back(layer_json(i, view.kept[i], view.tokens.size()));
    send_json(to, {{"id", id},
                   {"policy", view.policy},
                   {"n_tokens", view.tokens.size()},
                   {"tokens", std::move(tokens)},
                   {"layers", std::move(layers)}});
  };
  api.scheduler().look(name, telling<ConversationView>(api, exchange, send));
}

void session_snapshot(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const ConversationName name = named(api, exchange->request());
  std::shared_ptr<void> place = api.begin_copy();
  exchange->keep(place);  // its bytes are there until they are sent
  const auto send = [id = name.id, place = std::move(place)](HttpExchange& to, std::string bytes) {
    to.send(200, "application/octet-stream", std::move(bytes),
            {{"Content-Disposition", "attachment; filename=\"" + id + ".kv\""}});
  };
  api.scheduler().snapshot(name, telling<std::string>(api, exchange, send));
}

// The body is what GET .../snapshot gave, or a file of `lacake chat --session`.
void restore_session(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  const auto key = request.query.find("session");
  api.scheduler().restore(request.body, require_key(key == request.query.end() ? "" : key->second, "?session"),
                          api.owner_of(request), telling_restored(api, exchange));
}

void fork_session(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  const json body = parse_body(request.body);
  const std::string key = Fields(body).text("session").value_or("");
  api.scheduler().fork(named(api, request), require_key(key, "session"), telling_restored(api, exchange));
}

void drop_session(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const ConversationName name = named(api, exchange->request());
  const auto send = [id = name.id](HttpExchange& to, std::monostate) {
    send_json(to, {{"id", id}, {"object", "session"}, {"deleted", true}});
  };
  api.scheduler().drop(name, telling<std::monostate>(api, exchange, send));
}

}  // namespace lacake::cli
