#include "lacake/conversation.h"

#include <optional>
#include <span>
#include <utility>

#include "generation/answer_piece.h"
#include "lacake/error.h"
#include "text/utf8.h"

namespace lacake {
namespace {

std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

// Everything that undoes a call which throws or is stopped; release() where all went well.
template <class Undo>
class OnFailure {
 public:
  explicit OnFailure(Undo undo) : undo_(std::move(undo)) {}
  ~OnFailure() {
    if (armed_) undo_();
  }
  OnFailure(const OnFailure&) = delete;
  OnFailure& operator=(const OnFailure&) = delete;
  void release() { armed_ = false; }

 private:
  Undo undo_;
  bool armed_ = true;
};

}  // namespace

struct Conversation::State {
  State(const Model& m, Engine& e, ConversationOptions o) : model(m), engine(e), options(std::move(o)) { clear(); }

  void open() {
    close();  // before the next one is there: only one cache at a time
    session = engine.open(options.session);
  }

  void close() {
    session.reset();
    held.clear();
    answered.clear();
    pending.clear();
  }

  void clear() {
    open();
    messages = options.opening;
    n_turns = 0;
  }

  ChatPrompt render() const {
    if (!options.raw) {
      ChatPrompt prompt = model.chat(messages, options.chat);
      return options.parse_special ? with_special_tokens(model, std::move(prompt)) : prompt;
    }
    std::string text;
    for (const Message& message : messages) text += message.content + "\n";
    return plain_prompt(model, std::move(text), options.parse_special);
  }

  // What the session has to be fed so that it holds the whole prompt. None: it holds something else.
  std::optional<std::vector<Token>> unfed(const ChatPrompt& prompt) const {
    if (!session || held.empty()) return {};
    const std::string& text = prompt.text.text;
    for (const std::string& begin : {held + answered, held + trimmed(answered)}) {
      if (!text.starts_with(begin) || text.size() == begin.size()) continue;
      std::vector<Token> tokens = pending;
      const std::vector<Token> rest = model.tokenize(prompt.text.from(begin.size()), false);
      tokens.insert(tokens.end(), rest.begin(), rest.end());
      return tokens;
    }
    return {};
  }

  // The text of the answer's tokens that were fed.
  std::string fed_text(const AnswerFormat& format, std::span<const Token> fed) const {
    Utf8Stream characters;
    std::string text;
    for (const Token token : fed) text += characters.push(answer_piece(model, format, token));
    return text + characters.flush();
  }

  // What the session holds after an answer, and what it will hold with the tokens that were chosen but not fed.
  void remember(const ChatPrompt& prompt, const Answer& answer, std::size_t n_read) {
    const std::size_t n_fed = session->tokens().size() - n_read;
    held = prompt.text.text;
    pending.clear();
    if (answer.finish == Finish::kStop) {
      answered = fed_text(prompt.format, std::span(answer.tokens).first(n_fed));
    } else {
      answered = answer.text;
      pending.assign(answer.tokens.begin() + static_cast<std::ptrdiff_t>(n_fed), answer.tokens.end());
    }
  }

  const Model& model;
  Engine& engine;
  ConversationOptions options;
  std::unique_ptr<Session> session;

  std::vector<Message> messages;
  std::size_t n_turns = 0;
  std::string held;            // the prompt that was fed last, from the beginning; "": none
  std::string answered;        // the text of the answer after it, that of `pending` included
  std::vector<Token> pending;  // chosen, shown, but not fed yet
};

Conversation::Conversation(const Model& model, Engine& engine, ConversationOptions options)
    : state_(std::make_unique<State>(model, engine, std::move(options))) {}
Conversation::~Conversation() = default;

Turn Conversation::ask(const Message& question, const ConversationHooks& hooks) {
  State& s = *state_;
  s.messages.push_back(question);
  OnFailure forget([&] { s.messages.pop_back(); });

  const ChatPrompt prompt = s.render();
  const GenerationOptions& options = s.options.generation;
  Generation generation(s.model, prompt.format, options);
  Turn turn;
  std::optional<std::vector<Token>> unfed = s.unfed(prompt);
  const std::vector<Token>& tokens = unfed ? *unfed : prompt.tokens;
  const std::size_t n_held = unfed ? s.session->tokens().size() : 0;
  require_room(n_held, tokens.size(), options.limits);
  if (!unfed) {
    turn.read_again = s.n_turns > 0;
    if (turn.read_again && hooks.read_again) hooks.read_again(tokens.size());
    if (!s.session || !s.session->tokens().empty()) s.open();
  }

  // A question that was not read to its end leaves no trace in the session. One that was, but has no answer, cannot be
  // taken back: the next question opens another session.
  const std::size_t n_before = s.session->tokens().size();
  OnFailure lose([&] {
    if (s.session->status() != SessionStatus::kReady || s.session->tokens().size() != n_before) s.close();
  });
  Session* const sessions[] = {s.session.get()};
  const PromptRead read =
      read_prompt(s.engine, sessions, tokens, {.progress = hooks.prompt_progress, .cancel = options.cancel});
  turn.read_ms = read.ms;
  if (!read.finished) {
    turn.answer.finish = Finish::kCancelled;
    return turn;
  }
  turn.n_read = tokens.size();

  const std::size_t n_read = s.session->tokens().size();
  generation.begin(*s.session);
  const Writing writing{&generation, s.session.get()};
  write_answers(s.engine, {&writing, 1}, [&](std::size_t, std::string_view text) {
    if (hooks.on_text) hooks.on_text(text);
  });
  turn.answer = generation.answer();
  if (turn.answer.finish == Finish::kCancelled && turn.answer.tokens.empty()) return turn;  // as stopped before
  s.remember(prompt, turn.answer, n_read);
  lose.release();
  forget.release();
  const ParsedAnswer& parsed = turn.answer.parsed;
  s.messages.push_back(
      {.role = "assistant", .content = parsed.content, .reasoning = parsed.reasoning, .tool_calls = parsed.tool_calls});
  ++s.n_turns;
  return turn;
}

void Conversation::clear() { state_->clear(); }
const std::vector<Message>& Conversation::messages() const { return state_->messages; }
std::size_t Conversation::n_turns() const { return state_->n_turns; }
const Session* Conversation::session() const { return state_->session.get(); }

}  // namespace lacake
