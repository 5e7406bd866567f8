// POST /v1/completions, as OpenAI's legacy API has it: echo with the prompt's log-probabilities too.

#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serve/answer_facts.h"
#include "serve/asking.h"
#include "serve/completion.h"
#include "serve/prompts.h"
#include "serve/random_id.h"
#include "serve/underway.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

struct TextWish {
  bool stream = false, usage = false, echo = false;
  bool no_answer = false;  // max_tokens 0: the prompt's own probabilities are all that is wanted
  std::optional<std::size_t> probabilities;
  std::size_t n_answers = 1;
};

class TextCompletion final : public Completion {
 public:
  TextCompletion(Api& api, std::shared_ptr<HttpExchange> exchange, std::vector<ChatPrompt> prompts,
                 const TextWish& wish)
      : Completion(api, std::move(exchange), std::move(prompts), wish.stream), wish_(wish) {}

  // An echo comes first, as it does where nothing streams.
  void begin(std::size_t prompt, const ServedCache& cache) noexcept override {
    Completion::begin(prompt, cache);
    if (!stream_ || !wish_.echo) return;
    for (std::size_t i = 0; i < wish_.n_answers; ++i) {
      event(frame(json::array({choice(prompt, i, prompt_text(prompt), nullptr)})));
    }
  }
  void written(std::size_t prompt, std::size_t answer, std::string_view text, const Generation&) noexcept override {
    count_token();
    if (stream_ && !text.empty() && !wish_.no_answer)
      event(frame(json::array({choice(prompt, answer, std::string(text), nullptr)})));
  }

 private:
  json frame(json choices) const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", api_.options().alias},
            {"system_fingerprint", "b-lacake-" + api_.options().version},
            {"choices", std::move(choices)}};
  }
  json choice(std::size_t prompt, std::size_t answer, std::string text, json finish) const {
    return {{"index", prompt * wish_.n_answers + answer},
            {"text", std::move(text)},
            {"logprobs", nullptr},
            {"finish_reason", std::move(finish)}};
  }
  std::string prompt_text(std::size_t prompt) const {
    std::string text;
    const std::vector<Token>& tokens = prompts_[prompt].tokens;
    for (std::size_t i = first_shown(prompt); i < tokens.size(); ++i) text += api_.token_text(tokens[i]);
    return text;
  }
  // A text's own beginning-of-text token was added, and is none of its text. Where tokens were given, all are shown.
  std::size_t first_shown(std::size_t prompt) const {
    const ChatPrompt& p = prompts_[prompt];
    const auto begin = api_.model().text_begin();
    return !p.text.text.empty() && begin && !p.tokens.empty() && p.tokens[0] == *begin ? 1 : 0;
  }

  // The lists of the legacy API: of the prompt's tokens where it is echoed, then of the answer's.
  json probabilities(std::size_t prompt, const Served& served, const Answer& answer) const {
    json tokens = json::array(), values = json::array(), best = json::array(), offsets = json::array();
    std::size_t offset = 0;
    const auto add = [&](const LogProbabilities* one, const std::string& text) {
      tokens.push_back(text);
      values.push_back(one ? json(one->token.logprob) : json());
      json likely;
      if (one) {
        likely = json::object();
        for (const TokenProbability& p : one->best) likely[api_.token_text(p.token)] = p.logprob;
      }
      best.push_back(std::move(likely));
      offsets.push_back(offset);
      offset += text.size();
    };
    if (wish_.echo) {
      const std::vector<Token>& fed = prompts_[prompt].tokens;
      for (std::size_t i = first_shown(prompt); i < fed.size(); ++i) {
        const bool known = i > 0 && i - 1 < served.prompt_log_probabilities.size();
        add(known ? &served.prompt_log_probabilities[i - 1] : nullptr, api_.token_text(fed[i]));
      }
    }
    if (!wish_.no_answer) {
      for (const LogProbabilities& one : answer.log_probabilities) add(&one, api_.token_text(one.token.token));
      // Who scores the prompt asks for one token and takes it off, the last in the lists: it is there also where it
      // ended the answer, and then has no text.
      if (wish_.echo && answer.tokens.empty()) add(nullptr, "");
    }
    return {{"tokens", tokens}, {"token_logprobs", values}, {"top_logprobs", best}, {"text_offset", offsets}};
  }

  json choice_of(std::size_t prompt, std::size_t i) const {
    const Answer& answer = served_[prompt].answers[i];
    const std::string text = (wish_.echo ? prompt_text(prompt) : "") + (wish_.no_answer ? "" : answer.text);
    json one = choice(prompt, i, text, answer.finish == Finish::kLength ? "length" : "stop");
    if (wish_.probabilities) one["logprobs"] = probabilities(prompt, served_[prompt], answer);
    return one;
  }
  json total() const {
    json usage = {{"prompt_tokens", 0}, {"completion_tokens", 0}, {"total_tokens", 0}};
    for (const Served& served : served_) {
      const json one = usage_of(served);
      usage["prompt_tokens"] = usage["prompt_tokens"].get<std::size_t>() + one["prompt_tokens"].get<std::size_t>();
      if (!wish_.no_answer) {
        usage["completion_tokens"] =
            usage["completion_tokens"].get<std::size_t>() + one["completion_tokens"].get<std::size_t>();
      }
    }
    usage["total_tokens"] = usage["prompt_tokens"].get<std::size_t>() + usage["completion_tokens"].get<std::size_t>();
    return usage;
  }

  json whole() override {
    json choices = json::array();
    for (std::size_t p = 0; p < served_.size(); ++p) {
      for (std::size_t i = 0; i < served_[p].answers.size(); ++i) choices.push_back(choice_of(p, i));
    }
    json body = frame(std::move(choices));
    body["usage"] = total();
    body["timings"] = timings_of(served_[0]);
    body["lacake"] = cache_facts(served_[0].cache);
    return body;
  }
  void end_of(std::size_t prompt) override {
    for (std::size_t i = 0; i < served_[prompt].answers.size(); ++i) {
      json last = choice_of(prompt, i);
      last["text"] = "";  // it was all sent
      event(frame(json::array({std::move(last)})));
    }
  }
  void end_stream() override {
    if (wish_.usage) {
      json usage = frame(json::array());
      usage["usage"] = total();
      event(usage);
    }
    exchange_->write("data: [DONE]\n\n");
    exchange_->end();
  }

  const TextWish wish_;
  const std::string id_ = random_id("cmpl-");
  const std::time_t created_ = std::time(nullptr);
};

}  // namespace

void completions(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  TextWish wish{.stream = fields.flag("stream").value_or(false), .echo = fields.flag("echo").value_or(false)};
  if (const json* const options = fields.object("stream_options")) {
    wish.usage = Fields(*options, "stream_options.").flag("include_usage").value_or(false);
  }
  if (const auto suffix = fields.text("suffix"); suffix && !suffix->empty()) {
    refuse_field("suffix", "none: nothing is inserted", *suffix);
  }
  wish.n_answers = (std::size_t)fields.whole("n", 1, 64).value_or(1);
  if (const auto n = fields.whole("logprobs", 0, 1000)) wish.probabilities = (std::size_t)*n;
  const json* const given = fields.find("prompt");
  std::vector<ChatPrompt> prompts = prompts_of(api, given ? *given : json());

  Request request;
  request.asking = {.generation = generation_of_text(fields, api.options().defaults), .n_answers = wish.n_answers};
  GenerationOptions& generation = request.asking.generation;
  const bool said = fields.find("max_tokens") || fields.find("max_completion_tokens") || fields.find("n_predict");
  if (!generation.limits.answer && !said) generation.limits.answer = 16;  // as OpenAI has it
  if (generation.limits.answer == std::size_t{0}) wish.no_answer = true, generation.limits.answer = 1;
  generation.log_probabilities = wish.probabilities;
  ChatOptions format;
  set_response_format(format, fields);
  if (!format.json_schema.empty()) {
    SamplerOptions& sampling = generation.sampling;
    if (!sampling.json_schema.empty())
      refuse_field("response_format", "none beside json_schema", body["response_format"]);
    sampling.json_schema = format.json_schema;
  }
  request.session = session_of(fields, api.options().defaults, false);
  TextRequest text;
  if (wish.echo) text.log_probabilities = wish.probabilities;
  request.what = std::move(text);
  submit_all(api, exchange, prompts, request, std::make_shared<TextCompletion>(api, exchange, prompts, wish));
}

}  // namespace lacake::cli
