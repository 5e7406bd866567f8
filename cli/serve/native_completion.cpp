// POST /completion, llama-server's own.

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "serve/answer_facts.h"
#include "serve/asking.h"
#include "serve/completion.h"
#include "serve/prompts.h"
#include "serve/underway.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

struct NativeWish {
  bool stream = false, tokens = false;
  bool no_answer = false;  // n_predict 0: the prompt is read, and that is all
  News news;
  bool probabilities = false;
  std::vector<std::pair<std::string, json::json_pointer>> fields;  // of the answer by their paths; none: all
};

class NativeCompletion final : public Completion {
 public:
  NativeCompletion(Api& api, std::shared_ptr<HttpExchange> exchange, std::vector<ChatPrompt> prompts, NativeWish wish,
                   const GenerationOptions& generation)
      : Completion(api, std::move(exchange), std::move(prompts), wish.stream),
        wish_(std::move(wish)),
        settings_(generation_settings(api.model(), generation)),
        underway_(prompts_.size()),
        n_told_(prompts_.size()) {}

  void begin(std::size_t prompt, const ServedCache& cache) noexcept override {
    Completion::begin(prompt, cache);
    underway_[prompt].started(cache);
    progress(prompt, 0);
  }
  void progress(std::size_t prompt, std::size_t done) noexcept override {
    if (!stream_ || !wish_.news.progress) return;
    json progress = underway_[prompt].progress(done);
    if (progress.is_null()) return;
    json news = piece(prompt, "", json::array());
    news["prompt_progress"] = std::move(progress);
    event(news);
  }
  // Reading ends with a token, which nobody asked for then.
  void ended(std::size_t prompt, const Served& served) noexcept override {
    if (!wish_.no_answer) return Completion::ended(prompt, served);
    Served read = served;
    read.answers = {Answer{.finish = Finish::kLength}};
    Completion::ended(prompt, read);
  }
  void written(std::size_t prompt, std::size_t, std::string_view text, const Generation& generation) noexcept override {
    count_token();
    if (wish_.no_answer) return;
    const Answer& answer = generation.answer();
    underway_[prompt].written(answer.tokens.size());
    if (!stream_ || text.empty()) return;
    // With the tokens whose text was held back.
    const std::size_t from = std::exchange(n_told_[prompt], answer.tokens.size());
    json news = piece(prompt, std::string(text),
                      std::vector(answer.tokens.begin() + (std::ptrdiff_t)from, answer.tokens.end()));
    if (wish_.probabilities) {
      news["completion_probabilities"] = api_.probabilities(std::span(answer.log_probabilities).subspan(from));
    }
    event(news);
  }

 private:
  json piece(std::size_t prompt, std::string content, json tokens) const {
    json news = {{"index", prompt},
                 {"content", std::move(content)},
                 {"tokens", std::move(tokens)},
                 {"stop", false},
                 {"id_slot", 0}};
    if (wish_.news.timings) news["timings"] = underway_[prompt].timings();
    return news;
  }
  // `response_fields`: a path with slashes is a name of the answer.
  json chosen(const json& all) const {
    if (wish_.fields.empty()) return all;
    json some = json::object();
    for (const auto& [path, pointer] : wish_.fields) {
      if (all.contains(pointer)) some[path] = all.at(pointer);
    }
    return some;
  }
  json result(std::size_t prompt, std::string content) const {
    const Served& served = served_[prompt];
    const Answer& answer = served.answers[0];
    const char* const type = answer.finish == Finish::kLength ? "limit"
                             : answer.finish == Finish::kStop ? "word"
                                                              : "eos";
    json one = {{"index", prompt},
                {"content", std::move(content)},
                {"tokens", wish_.tokens ? json(answer.tokens) : json::array()},
                {"id_slot", 0},
                {"stop", true},
                {"model", api_.options().alias},
                {"generation_settings", settings_},
                {"tokens_predicted", answer.tokens.size()},
                {"tokens_evaluated", served.cache.n_prompt},
                {"tokens_cached", served.cache.n_held},
                {"prompt", prompts_[prompt].text.text},
                {"has_new_line", answer.text.find('\n') != answer.text.npos},
                {"truncated", false},
                {"stop_type", type},
                {"stopping_word", answer.stop},
                {"timings", timings_of(served)},
                {"lacake", cache_facts(served.cache)}};
    if (wish_.probabilities) one["completion_probabilities"] = api_.probabilities(answer.log_probabilities);
    return chosen(one);
  }
  json whole() override {
    if (served_.size() == 1) return result(0, served_[0].answers[0].text);
    json all = json::array();
    for (std::size_t i = 0; i < served_.size(); ++i) all.push_back(result(i, served_[i].answers[0].text));
    return all;
  }
  void end_of(std::size_t prompt) override { event(result(prompt, "")); }
  void end_stream() override { exchange_->end(); }

  const NativeWish wish_;
  const json settings_;
  std::vector<Underway> underway_;   // by prompt
  std::vector<std::size_t> n_told_;  // tokens of the answer that were sent
};

}  // namespace

void native_completion(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  const json* const given = fields.find("prompt");
  std::vector<ChatPrompt> prompts = prompts_of(api, given ? *given : json());
  Request request{.what = TextRequest{}, .asking = {.generation = generation_of_text(fields, api.options().defaults)}};
  for (const char* name : {"n", "n_cmpl"}) {
    if (const auto n = fields.whole(name, 1, 64); n && *n > 1)
      refuse_field(name, "1 (POST /v1/completions has more)", *n);
  }
  if (fields.flag("post_sampling_probs").value_or(false)) {
    refuse_field("post_sampling_probs", "false: probabilities are those before the samplers", true);
  }
  GenerationOptions& generation = request.asking.generation;
  for (const char* name : {"n_probs", "logprobs"}) {
    const auto n = fields.whole(name, 0, 1000);
    if (n && *n > 0) generation.log_probabilities = (std::size_t)*n;
  }
  const GenerationOptions wished = generation;
  const bool no_answer = generation.limits.answer == std::size_t{0};
  if (no_answer) generation.limits.answer = 1;
  request.session = session_of(fields, api.options().defaults, false);
  NativeWish wish{.stream = fields.flag("stream").value_or(false),
                  .tokens = fields.flag("return_tokens").value_or(false),
                  .no_answer = no_answer,
                  .news = News(fields),
                  .probabilities = generation.log_probabilities.has_value()};
  for (const std::string& path : fields.texts("response_fields")) {
    if (path.find('~') != path.npos) refuse_field("response_fields", "names with / between", path);
    wish.fields.emplace_back(path, "/" + path);
  }
  submit_all(api, exchange, prompts, request,
             std::make_shared<NativeCompletion>(api, exchange, prompts, std::move(wish), wished));
}

}  // namespace lacake::cli
