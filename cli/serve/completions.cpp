// POST /v1/completions, as OpenAI's legacy API has it (echo with the prompt's log-probabilities too), and POST
// /completion, llama-server's own.

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <mutex>

#include "lacake/error.h"
#include "serve/api.h"
#include "serve/prompts.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

// Where a client of several requests gathers what comes of each.
class Gathering {
 public:
  virtual ~Gathering() = default;
  virtual void begin(std::size_t prompt, const ServedCache& cache) noexcept = 0;
  virtual void progress(std::size_t /*prompt*/, std::size_t /*done*/) noexcept {}
  virtual void written(std::size_t prompt, std::size_t answer, std::string_view text,
                       const Generation& generation) noexcept = 0;
  virtual void ended(std::size_t prompt, const Served& served) noexcept = 0;
  virtual void failed(const Error& error) noexcept = 0;
};

// Requests for all of the prompts, a few at a time, so that a long list fills no queue. When one fails or the client
// goes, the others end.
class Batch final : public std::enable_shared_from_this<Batch> {
 public:
  static constexpr std::size_t kAtOnce = 4;

  Batch(Scheduler& scheduler, std::vector<ChatPrompt> prompts, Request like, std::shared_ptr<Gathering> gathering)
      : scheduler_(scheduler), prompts_(std::move(prompts)), like_(std::move(like)), gathering_(std::move(gathering)) {}

  // Throws what Scheduler::submit throws for the first.
  void begin() {
    for (std::size_t i = 0; i < std::min(kAtOnce, prompts_.size()); ++i) next();
  }
  // Nobody is told of those that end so. False: it was over already.
  bool cancel() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(over_, true)) return false;
    for (const Scheduler::Ticket ticket : tickets_) scheduler_.cancel(ticket);
    return true;
  }

 private:
  class Part final : public RequestClient {
   public:
    Part(std::shared_ptr<Batch> batch, std::size_t prompt) : batch_(std::move(batch)), prompt_(prompt) {}
    void started(const ServedCache& cache) noexcept override { batch_->gathering_->begin(prompt_, cache); }
    void progress(std::size_t done, std::size_t) noexcept override { batch_->gathering_->progress(prompt_, done); }
    void written(std::size_t answer, std::string_view text, const Generation& generation) noexcept override {
      batch_->gathering_->written(prompt_, answer, text, generation);
    }
    void ended(const Served& served) noexcept override {
      batch_->gathering_->ended(prompt_, served);
      try {
        batch_->next();
      } catch (const Error& error) {
        failed(error);
      } catch (const std::exception& error) {  // no memory for it
        failed(Error({.kind = Error::Kind::kState, .subject = "server", .found = error.what()}));
      }
    }
    void failed(const Error& error) noexcept override {
      if (batch_->cancel()) batch_->gathering_->failed(error);
    }

   private:
    const std::shared_ptr<Batch> batch_;
    const std::size_t prompt_;
  };

  void next() {
    const std::lock_guard lock(mutex_);
    if (over_ || n_begun_ == prompts_.size()) return;
    Request request = like_;
    std::get<TextRequest>(request.what).prompt = prompts_[n_begun_];
    tickets_.push_back(scheduler_.submit(std::move(request), std::make_shared<Part>(shared_from_this(), n_begun_)));
    ++n_begun_;
  }

  Scheduler& scheduler_;
  const std::vector<ChatPrompt> prompts_;
  const Request like_;
  const std::shared_ptr<Gathering> gathering_;
  std::mutex mutex_;
  std::size_t n_begun_ = 0;
  std::vector<Scheduler::Ticket> tickets_;
  bool over_ = false;
};

// What both kinds of answers share: they come from several prompts, and end once.
class Completion : public Gathering, protected Answering {
 public:
  Completion(Api& api, std::shared_ptr<HttpExchange> exchange, std::vector<ChatPrompt> prompts, bool stream)
      : Answering(api, std::move(exchange), stream), prompts_(std::move(prompts)), served_(prompts_.size()) {}

  void begin(std::size_t, const ServedCache&) noexcept override {
    if (stream_ && !begun_) exchange_->begin(200, "text/event-stream");
    begun_ = true;
  }
  void ended(std::size_t prompt, const Served& served) noexcept override {
    served_[prompt] = served;
    if (stream_) end_of(prompt);
    if (++n_ended_ < prompts_.size() || over_) return;
    over_ = true;
    answered(served_);
    stream_ ? end_stream() : send_json(*exchange_, whole());
  }
  void failed(const Error& error) noexcept override {
    if (over_) return;
    over_ = true;
    const ApiError told = this->told(error);
    exchange_->send(told.status, "application/json", dumped(told.body), told.headers);
    exchange_->write("data: " + dumped(told.body) + "\n\n");
    exchange_->end();
  }

 protected:
  virtual json whole() = 0;
  virtual void end_of(std::size_t prompt) = 0;
  virtual void end_stream() = 0;
  void event(const json& data) { exchange_->write("data: " + dumped(data) + "\n\n"); }
  std::size_t prompt_length() const override {
    std::size_t longest = 0;
    for (const ChatPrompt& prompt : prompts_) longest = std::max(longest, prompt.tokens.size());
    return longest;
  }

  const std::vector<ChatPrompt> prompts_;
  std::vector<Served> served_;  // by prompt

 private:
  bool begun_ = false, over_ = false;
  std::size_t n_ended_ = 0;
};

// --- OpenAI ----------------------------------------------------------------------------------------------------------

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
      if (!wish_.echo) last["text"] = "";
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

// --- llama-server's own ----------------------------------------------------------------------------------------------

struct NativeWish {
  bool stream = false, tokens = false;
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
  void written(std::size_t prompt, std::size_t, std::string_view text, const Generation& generation) noexcept override {
    count_token();
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

void submit_all(Api& api, const std::shared_ptr<HttpExchange>& exchange, const std::vector<ChatPrompt>& prompts,
                const Request& like, const std::shared_ptr<Gathering>& gathering) {
  const auto batch = std::make_shared<Batch>(api.scheduler(), prompts, like, gathering);
  try {
    batch->begin();
  } catch (const Error&) {
    batch->cancel();
    throw;
  }
  exchange->when_gone([batch] { batch->cancel(); });
}

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
  request.asking = {.generation = generation_of(fields, api.options().defaults), .n_answers = wish.n_answers};
  GenerationOptions& generation = request.asking.generation;
  const bool said = fields.find("max_tokens") || fields.find("max_completion_tokens") || fields.find("n_predict");
  if (!generation.limits.answer && !said) generation.limits.answer = 16;  // as OpenAI has it
  if (generation.limits.answer == std::size_t{0}) wish.no_answer = true, generation.limits.answer = 1;
  generation.log_probabilities = wish.probabilities;
  request.session = session_of(fields, api.options().defaults, false);
  TextRequest text;
  if (wish.echo) text.log_probabilities = wish.probabilities;
  request.what = std::move(text);
  submit_all(api, exchange, prompts, request, std::make_shared<TextCompletion>(api, exchange, prompts, wish));
}

void native_completion(Api& api, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const Fields fields(body);
  const json* const given = fields.find("prompt");
  std::vector<ChatPrompt> prompts = prompts_of(api, given ? *given : json());
  Request request{.what = TextRequest{}, .asking = {.generation = generation_of(fields, api.options().defaults)}};
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
  if (generation.limits.answer == std::size_t{0}) generation.limits.answer = 1;
  request.session = session_of(fields, api.options().defaults, false);
  NativeWish wish{.stream = fields.flag("stream").value_or(false),
                  .tokens = fields.flag("return_tokens").value_or(false),
                  .news = News(fields),
                  .probabilities = generation.log_probabilities.has_value()};
  for (const std::string& path : fields.texts("response_fields")) {
    if (path.find('~') != path.npos) refuse_field("response_fields", "names with / between", path);
    wish.fields.emplace_back(path, "/" + path);
  }
  submit_all(api, exchange, prompts, request,
             std::make_shared<NativeCompletion>(api, exchange, prompts, std::move(wish), generation));
}

}  // namespace lacake::cli
