#include "serve/answering.h"

#include <algorithm>

#include "lacake/error.h"
#include "serve/answer_facts.h"
#include "serve/asking.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

void require_template(const Model& model) {
  if (model.has_chat_template()) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "messages",
               .expected = "a model with a chat template (--chat-template)",
               .found = "one without"});
}

}  // namespace

void Answering::count_token() {
  if (!any_token_) {
    api_.metrics().first_token(since_start_.ms() / 1e3);
  } else {
    api_.metrics().between_tokens(last_token_.ms() / 1e3);
  }
  any_token_ = true;
  last_token_ = Stopwatch();
}

void Answering::answered(std::span<const Served> all) {
  std::size_t n_prompt = 0, n_held = 0, n_written = 0;
  double queue_ms = 0;
  json finish = json::array(), texts = json::array();
  for (const Served& served : all) {
    api_.store_watch().answered(served.cache);
    n_prompt += served.cache.n_prompt, n_held += served.cache.n_held;
    queue_ms = std::max(queue_ms, served.queue_ms);
    for (const Answer& answer : served.answers) {
      n_written += answer.tokens.size();
      finish.push_back(answer.finish == Finish::kCancelled ? "cancelled" : finish_reason(answer));
      texts.push_back(answer.text);
    }
  }
  exchange_->note({{"model", api_.options().alias},
                   {"prompt_tokens", n_prompt},
                   {"cached_tokens", n_held},
                   {"generated_tokens", n_written},
                   {"queue_ms", queue_ms},
                   {"finish", finish.size() == 1 ? finish[0] : finish}});
  if (api_.options().logs_answers) exchange_->note({{"answer", texts.size() == 1 ? texts[0] : texts}});
}

ApiError Answering::told(const Error& error) const {
  ApiError told = api_error(error);
  if (is_too_long(error)) {
    try {
      told = context_error(prompt_length(), api_.options().n_ctx);
    } catch (const Error&) {  // the template refuses it: what was wrong first is said
    }
  }
  exchange_->note({{"error", told.body["error"]["message"]}});
  return told;
}

bool Answering::sign_is_due() {
  constexpr double kSignMs = 5000;
  if (!stream_ || last_sign_.ms() < kSignMs) return false;
  last_sign_ = Stopwatch();
  return true;
}

std::size_t ChatAnswering::prompt_length() const { return api_.model().chat(messages_, chat_).tokens.size(); }

void count_tokens(const Api& api, HttpExchange& exchange, const Fields& fields, const std::vector<Message>& messages,
                  ChatOptions chat) {
  require_template(api.model());
  go_on_with_last(chat, fields, messages);
  send_json(exchange, {{"input_tokens", api.model().chat(messages, chat).tokens.size()}});
}

ChatCall::ChatCall(const Api& api, const HttpRequest& http, const Fields& fields, std::vector<Message> messages,
                   Asking asking) {
  require_template(api.model());
  request.asking = std::move(asking);
  request.session = session_of(fields, api.options().defaults, true);
  go_on_with_last(request.asking.chat, fields, messages);
  const ChatPrompt prompt = api.model().render_chat(messages, request.asking.chat);
  const SessionOptions& session = request.session ? *request.session : api.options().defaults.session;
  api.require_fits(prompt.text.text.size(), &session.policy);
  if (fields.flag("verbose").value_or(api.options().verbose)) {
    shown = {{"prompt", prompt.text.text},
             {"generation_settings", generation_settings(api.model(), request.asking.generation)}};
  }
  // What a schema asks for may stand in a fence ("```json"), which is no part of the content either.
  parses = prompt.format.has_reasoning() || prompt.format.has_tool_calls() || !request.asking.chat.json_schema.empty();
  request.what = ChatRequest{
      .messages = std::move(messages), .key = Api::conversation_key(http, fields), .owner = api.owner_of(http)};
}

}  // namespace lacake::cli
