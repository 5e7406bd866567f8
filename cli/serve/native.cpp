// What llama-server tells of itself and its model: tokens, templates, properties, slots.

#include <fmt/format.h>

#include <ctime>

#include "lacake/error.h"
#include "serve/api.h"
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
  std::string text;
  for (const json& token : tokens ? *tokens : json::array()) text += api.token_text(api.token_of(token, "tokens"));
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

json generation_settings(const Model& model, const GenerationOptions& generation) {
  const SamplerOptions& s = generation.sampling;
  json bias = json::array();  // of a forbidden token null, which is how JSON has no minus infinity
  for (const LogitBias& one : s.logit_bias) {
    std::vector<Token> tokens = {one.token};
    if (!one.text.empty()) tokens = model.tokenize(one.text, false, false);
    for (const Token token : tokens) bias.push_back({{"token", token}, {"bias", one.bias}});
  }
  for (Token token = 0; s.ignore_eos && token < model.facts().n_vocab; ++token) {
    if (model.is_end(token)) bias.push_back({{"token", token}, {"bias", nullptr}});
  }
  return {{"seed", s.seed},
          {"temperature", s.temp},
          {"dynatemp_range", s.dynatemp_range},
          {"dynatemp_exponent", s.dynatemp_exponent},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"top_n_sigma", s.top_n_sigma},
          {"xtc_probability", s.xtc_probability},
          {"xtc_threshold", s.xtc_threshold},
          {"typical_p", s.typical_p},
          {"min_keep", s.min_keep},
          {"repeat_last_n", s.repeat_last_n},
          {"repeat_penalty", s.repeat_penalty},
          {"presence_penalty", s.presence_penalty},
          {"frequency_penalty", s.frequency_penalty},
          {"dry_multiplier", s.dry_multiplier},
          {"dry_base", s.dry_base},
          {"dry_allowed_length", s.dry_allowed_length},
          {"dry_penalty_last_n", s.dry_penalty_last_n},
          {"dry_sequence_breakers", s.dry_sequence_breakers},
          {"mirostat", s.mirostat},
          {"mirostat_tau", s.mirostat_tau},
          {"mirostat_eta", s.mirostat_eta},
          {"ignore_eos", s.ignore_eos},
          {"logit_bias", std::move(bias)},
          {"grammar", s.grammar},
          {"samplers", s.samplers},
          {"stop", generation.stop},
          {"n_probs", generation.log_probabilities.value_or(0)},
          {"n_predict", generation.limits.answer ? json(*generation.limits.answer) : json(-1)}};
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
    const ApiError off = api_error(501, "not_supported_error", "this server does not show its slots");
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
