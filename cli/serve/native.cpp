// What llama-server tells of itself and its model: tokens, templates, properties, slots.

#include <fmt/format.h>

#include <ctime>

#include "lacake/error.h"
#include "serve/answer_facts.h"
#include "serve/api.h"
#include "serve/asking.h"
#include "serve/sending.h"
#include "text/utf8.h"

namespace lacake::cli {

using nlohmann::json;

void tokenize(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  // llama-server says `content`, vLLM `prompt`.
  const auto content = fields.text("content"), prompt = fields.text("prompt");
  if (!content && !prompt) refuse_field("content", "a text", json());
  const bool special = fields.flag("add_special").value_or(fields.flag("add_special_tokens").value_or(!content));
  const std::vector<Token> tokens =
      api.model().tokenize(content ? *content : *prompt, fields.flag("parse_special").value_or(true), special);
  json list = json::array();
  for (const Token token : tokens) {
    if (!fields.flag("with_pieces").value_or(false)) {
      list.push_back(token);
      continue;
    }
    const std::string piece = api.model().piece(token, true);
    list.push_back({{"id", token}, {"piece", invalid_utf8_offset(piece) ? json(api.token_bytes(token)) : json(piece)}});
  }
  send_json(*exchange, {{"tokens", std::move(list)}, {"count", tokens.size()}, {"max_model_len", api.options().n_ctx}});
}

void detokenize(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  const json* const tokens = fields.list("tokens");
  if (!tokens) refuse_field("tokens", "a list of tokens", json());
  std::string text;
  for (const json& token : *tokens) text += api.token_text(api.token_of(token, "tokens"));
  send_json(*exchange, {{"content", text}, {"prompt", text}});
}

void apply_template(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  const json* const messages = fields.find("messages");
  if (!api.model().has_chat_template()) refuse_field("messages", "a model with a chat template", json());
  const std::vector<Message> all = openai_messages(messages ? *messages : json());
  ChatOptions chat = openai_chat_options(fields, api.options().defaults);
  go_on_with_last(chat, fields, all);
  const ChatPrompt prompt = api.model().render_chat(all, chat);
  send_json(*exchange, {{"prompt", prompt.text.text}});
}

void tokenizer_info(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const Model& model = api.model();
  json info = {{"eos_token", nullptr}, {"bos_token", nullptr}, {"chat_template", nullptr}};
  for (Token token = 0; token < model.facts().n_vocab && info["eos_token"].is_null(); ++token) {
    if (model.is_end(token)) info["eos_token"] = model.piece(token, true);
  }
  if (const auto begin = model.text_begin()) info["bos_token"] = model.piece(*begin, true);
  if (model.has_chat_template()) info["chat_template"] = model.chat_template();
  send_json(*exchange, info);
}

void list_models(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const ModelFacts& facts = api.model().facts();
  const json model = {{"id", api.options().alias},
                      {"object", "model"},
                      {"created", std::time(nullptr)},
                      {"owned_by", "lacake"},
                      {"max_model_len", api.options().n_ctx},
                      {"meta",
                       {{"n_vocab", facts.n_vocab},
                        {"n_ctx_train", facts.training_length},
                        {"n_embd", facts.n_embd},
                        {"n_params", facts.n_parameters},
                        {"size", facts.mapped_bytes + facts.second_bytes}}}};
  send_json(*exchange, {{"object", "list"}, {"data", json::array({model})}});
}

void props(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const Model& model = api.model();
  json parameters = generation_settings(model, api.options().defaults.generation);
  parameters["reasoning_format"] = api.options().defaults.chat.reasoning_apart ? "deepseek" : "none";
  const SessionOptions& session = api.options().defaults.session;
  json all = {{"default_generation_settings", {{"n_ctx", api.options().n_ctx}, {"params", std::move(parameters)}}},
              {"total_slots", api.options().n_parallel},
              {"model_alias", api.options().alias},
              {"model_path", model.facts().path},
              {"modalities", {{"vision", false}, {"audio", false}}},
              {"build_info", "b-lacake-" + api.options().version},
              {"is_sleeping", false},
              {"endpoint_slots", api.options().slots},
              {"endpoint_props", false},  // they cannot be changed
              {"endpoint_metrics", true},
              {"lacake", api.options().settings}};
  all["lacake"]["policy"] = session.policy.text();
  all["lacake"]["kv_budget"] = session.budget.text();
  all["lacake"]["kv_type"] = session.types.text();
  all["lacake"]["prefill"] = prefill_name(session.prefill);
  all["lacake"]["kv_reserved_bytes"] = api.scheduler().status().memory.reserved;
  if (model.has_chat_template()) all["chat_template"] = model.chat_template();
  if (const auto begin = model.text_begin()) all["bos_token"] = model.piece(*begin, true);
  send_json(*exchange, all);
}

// llama-server's list: as many places as there are, the conversations in the first of them.
void slots(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  if (!api.options().slots) {
    const ApiError off = api_error(501, "this server does not show its slots");
    return send_json(*exchange, off.body, off.status);
  }
  const SchedulerStatus status = api.scheduler().status();
  json list = json::array();
  for (std::size_t i = 0; i < std::max(api.options().n_parallel, status.conversations.size()); ++i) {
    json slot = {{"id", i}, {"n_ctx", api.options().n_ctx}, {"is_processing", false}};
    if (i < status.conversations.size()) {
      slot["is_processing"] = status.conversations[i].running;
      const bool own = Scheduler::is_of(status.conversations[i].id, api.owner_of(exchange->request()));
      if (own) slot["lacake"] = session_json(status.conversations[i]);
    }
    list.push_back(std::move(slot));
  }
  send_json(*exchange, list);
}

}  // namespace lacake::cli
