#include "serve/running.h"

#include <algorithm>
#include <utility>

#include "base/stopwatch.h"
#include "generation/answers.h"

namespace lacake {
namespace {

// The answers of a request, those that were cut short too.
std::vector<Answer> answers_of(std::span<const Writing> writing) {
  std::vector<Answer> answers;
  for (const Writing& w : writing) {
    if (!w.generation->finished()) w.generation->cancel();
    answers.push_back(w.generation->answer());
  }
  return answers;
}

class ChatRun final : public Running {
 public:
  ChatRun(Conversation& conversation, const ChatRequest& request, const Asking& asking)
      : conversation_(conversation), reply_(conversation.begin(request.messages, asking)) {}

  bool read() override { return reply_.read(); }
  bool reading() const override { return reply_.reading(); }
  std::string_view reading_opening() const override { return reply_.reading_opening(); }
  std::size_t n_to_feed() const override { return reply_.n_to_feed(); }
  std::size_t n_to_read() const override { return reply_.n_to_read(); }
  double n_read() const override { return reply_.n_read(); }
  std::span<const Writing> writing() const override { return reply_.writing(); }
  const Session& session() const override { return *conversation_.session(); }

  Served end() override {
    Served served;
    const Turn& turn = reply_.turn();
    served.cache = cache_of(session(), turn.n_held + turn.n_read, turn.n_held);
    served.read_ms = turn.read_ms;
    served.read_again = turn.read_again;
    served.answers = answers_of(reply_.writing());
    (void)reply_.end();
    return served;
  }

 private:
  Conversation& conversation_;
  Reply reply_;
};

class TextRun final : public Running {
 public:
  TextRun(const Model& model, Engine& engine, const SessionOptions& session, const TextRequest& request,
          const Asking& asking)
      : engine_(engine),
        tokens_(request.prompt.tokens),
        session_(engine.open(session)),
        answers_(model, request.prompt.format, asking.generation, asking.n_answers) {
    PrefillOptions options;
    if (request.log_probabilities) {
      options.all_logits = [this, n_best = *request.log_probabilities](std::size_t i, std::span<const float> logits) {
        if (i + 1 < tokens_.size()) log_probabilities_.push_back(log_probabilities(logits, tokens_[i + 1], n_best));
      };
    }
    Session* const sessions[] = {session_.get()};
    options.probes = repeat_probes(model, sessions, request.prompt);
    job_ = engine.start_prefill(sessions, tokens_, std::move(options));
    n_to_read_ = job_->n_tokens();
  }

  bool read() override {
    if (!job_) return false;
    const Stopwatch watch;
    const bool more = job_->advance();
    if (!more) {
      job_.reset();
      answers_.begin(engine_, *session_);
    }
    read_ms_ += watch.ms();
    return more;
  }
  bool reading() const override { return job_ != nullptr; }
  std::size_t n_to_feed() const override { return tokens_.size(); }
  std::size_t n_to_read() const override { return n_to_read_; }
  double n_read() const override { return job_ ? job_->n_tokens_done() : (double)n_to_read_; }
  std::span<const Writing> writing() const override { return answers_.writing(); }
  const Session& session() const override { return *session_; }

  Served end() override {
    return {.answers = answers_of(answers_.writing()),
            .cache = cache_of(*session_, tokens_.size(), 0),
            .read_ms = read_ms_,
            .prompt_log_probabilities = std::move(log_probabilities_)};
  }

 private:
  Engine& engine_;
  std::vector<Token> tokens_;
  std::vector<LogProbabilities> log_probabilities_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<PrefillJob> job_;
  Answers answers_;
  std::size_t n_to_read_ = 0;
  double read_ms_ = 0;
};

}  // namespace

ServedCache cache_of(const Session& session, std::size_t n_prompt, std::size_t n_held) {
  return {.n_prompt = n_prompt, .n_held = n_held, .use = session.use(), .policy = session.options().policy.text()};
}

std::unique_ptr<Running> run_chat(Conversation& conversation, const ChatRequest& request, const Asking& asking) {
  return std::make_unique<ChatRun>(conversation, request, asking);
}

std::unique_ptr<Running> run_text(const Model& model, Engine& engine, const SessionOptions& session,
                                  const TextRequest& request, const Asking& asking) {
  return std::make_unique<TextRun>(model, engine, session, request, asking);
}

}  // namespace lacake
