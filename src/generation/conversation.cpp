#include "lacake/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "generation/answer_piece.h"
#include "generation/checkpoints.h"
#include "generation/conversation_state.h"
#include "lacake/error.h"
#include "text/utf8.h"

namespace lacake {
namespace {

constexpr const char* kNote = "conversation";

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

// Something that is not in the text, and that no template changes.
std::string mark_for(const std::string& text) {
  for (int i = 0;; ++i) {
    std::string mark = fmt::format("@{}question@", i);
    if (text.find(mark) == text.npos) return mark;
  }
}

// What stays of checkpoints where they may take `most` bytes: their places, ascending.
std::vector<std::size_t> most_useful(std::span<const CheckpointSize> checkpoints, std::size_t n_tokens,
                                     std::uint64_t most) {
  std::vector<CheckpointSize> sizes(checkpoints.begin(), checkpoints.end());
  std::vector<std::size_t> places(sizes.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  const auto bytes = [&] {
    return std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const CheckpointSize& c) { return sum + c.bytes; });
  };
  while (!sizes.empty() && (most == 0 || bytes() > most)) {
    const auto goes = (std::ptrdiff_t)least_useful(sizes, n_tokens);
    sizes.erase(sizes.begin() + goes);
    places.erase(places.begin() + goes);
  }
  return places;
}

}  // namespace

struct Conversation::State {
  State(const Model& m, Engine& e, ConversationOptions o) : model(m), engine(e), options(std::move(o)) {}

  void open() {
    close();  // before the next one is there: only one cache at a time
    session = engine.open(options.session);
  }

  void close() {
    checkpoints.clear();
    session.reset();
    own.held = {};
  }

  void clear() {
    open();
    own = {.raw = options.raw, .parse_special = options.parse_special};
    take(options.opening);
    n_retries = 0;
  }

  // The text of a prompt and how its answer is read, without tokens: most of it was fed already.
  ChatPrompt render(std::span<const Message> messages) const {
    ChatPrompt prompt;
    if (own.raw) {
      std::string text;
      for (const Message& message : messages) text += message.content + "\n";
      prompt.text = PromptText::as_letters(std::move(text));
    } else {
      prompt = model.render_chat(messages, options.chat);
    }
    if (own.parse_special) prompt.text.letters.clear();
    return prompt;
  }

  // --- where to go on ------------------------------------------------------------------------------------------

  struct Checkpoint {
    std::size_t n_messages;  // of the conversation then: without the question that was being answered
    HeldText held;
    std::unique_ptr<SessionCheckpoint> session;
  };

  // From where a text can be read on, and the tokens that are missing there.
  struct Start {
    enum class From { kSession, kCheckpoint, kNothing };
    From from = From::kNothing;
    std::size_t checkpoint = 0;
    std::size_t n_held = 0;
    std::vector<Token> tokens;
  };

  Start start_of(const PromptText& text) const {
    const auto behind = [&](const HeldText& held, Start start) -> std::optional<Start> {
      const std::optional<std::size_t> n_bytes = held.beginning_of(text.text);
      if (!n_bytes) return {};
      start.tokens = held.pending;
      const std::vector<Token> rest = model.tokenize(text.from(*n_bytes), false);
      start.tokens.insert(start.tokens.end(), rest.begin(), rest.end());
      return start;
    };
    if (session) {
      if (auto start = behind(own.held, {Start::From::kSession, 0, session->tokens().size()})) return *start;
      for (std::size_t i = checkpoints.size(); i-- > 0;) {
        const Checkpoint& c = checkpoints[i];
        if (auto start = behind(c.held, {Start::From::kCheckpoint, i, c.session->n_tokens()})) return *start;
      }
    }
    return {.tokens = model.tokenize(text, true)};
  }

  // Makes the session what `start` begins with. True if everything is read again.
  bool go_to(const Start& start, const ConversationHooks& hooks) {
    switch (start.from) {
      case Start::From::kSession:
        keep_checkpoint();
        return false;
      case Start::From::kCheckpoint:
        go_back(start.checkpoint);
        return false;
      case Start::From::kNothing:
        break;
    }
    const bool again = n_turns > 0 || !own.ahead.empty();
    if (again && hooks.read_again) hooks.read_again(start.tokens.size());
    if (!session || !session->tokens().empty()) open();
    return again;
  }

  // --- checkpoints ---------------------------------------------------------------------------------------------

  std::uint64_t checkpoint_bytes() const {
    std::uint64_t bytes = 0;
    for (const Checkpoint& c : checkpoints) bytes += c.session->bytes();
    return bytes;
  }

  std::vector<CheckpointSize> checkpoint_sizes() const {
    std::vector<CheckpointSize> sizes;
    for (const Checkpoint& c : checkpoints) sizes.push_back({c.session->n_tokens(), c.session->bytes()});
    return sizes;
  }

  // Of the session as it is now, if there is none yet, at the cost of others where there is no room for all.
  void keep_checkpoint() {
    const std::size_t n_tokens = session->tokens().size();
    if (options.checkpoint_bytes == 0 || n_tokens == 0) return;
    if (!checkpoints.empty() && checkpoints.back().session->n_tokens() == n_tokens) return;
    // Room first: never more than is allowed, also while it is made.
    const std::uint64_t wanted = session->checkpoint_bytes();
    if (wanted > options.checkpoint_bytes) return;
    while (checkpoint_bytes() + wanted > options.checkpoint_bytes) {
      checkpoints.erase(checkpoints.begin() + (std::ptrdiff_t)least_useful(checkpoint_sizes(), n_tokens));
    }
    checkpoints.push_back({own.messages.size(), own.held, session->checkpoint()});
  }

  void go_back(std::size_t checkpoint) {
    session->go_back(*checkpoints[checkpoint].session);
    own.held = checkpoints[checkpoint].held;
    checkpoints.resize(checkpoint + 1);
  }

  // To before the question that came after the messages that are left, if there is a checkpoint of it: what is saved
  // now is then what is said. Else the next question finds its way.
  void go_back_to_messages() {
    if (!session || session->status() != SessionStatus::kReady) return;
    for (std::size_t i = 0; i < checkpoints.size(); ++i) {
      if (checkpoints[i].n_messages == own.messages.size()) return go_back(i);
    }
  }

  // After a question that was read and has no answer. Without a checkpoint it cannot be taken out of the session.
  void take_back(std::size_t n_tokens, const HeldText& held) {
    if (session->status() == SessionStatus::kReady && session->tokens().size() == n_tokens) return;
    while (!checkpoints.empty() && checkpoints.back().session->n_tokens() > n_tokens) checkpoints.pop_back();
    const bool there = !checkpoints.empty() && checkpoints.back().session->n_tokens() == n_tokens;
    if (!there || session->status() != SessionStatus::kReady) return close();
    session->go_back(*checkpoints.back().session);
    own.held = held;
  }

  // --- reading and answering -----------------------------------------------------------------------------------

  // Brings the session to hold this text, of which it holds the beginning. Adds to the turn. False: it was stopped, and
  // nothing has changed.
  bool read(const PromptText& text, std::span<const Token> tokens, bool more_follows, const ConversationHooks& hooks,
            Turn& turn) {
    if (!tokens.empty() || session->tokens().empty()) {  // of nothing at all, reading says what is wrong
      Session* const sessions[] = {session.get()};
      const PromptRead done = read_prompt(
          engine, sessions, tokens,
          {.progress = hooks.prompt_progress, .cancel = options.generation.cancel, .more_follows = more_follows});
      turn.read_ms += done.ms;
      if (!done.finished) return false;
    }
    turn.n_read += tokens.size();
    own.held = {.prompt = text.text};
    keep_checkpoint();
    return true;
  }

  // Does a later prompt begin with all of this one? Not where the template opens an answer otherwise than it writes it
  // down later: with a mark of reasoning, which it leaves out of old answers. Asked once, of a conversation of a
  // letter.
  bool opening_lasts() {
    if (!opening_lasts_) {
      try {
        const Message asked{.role = "user", .content = "1"}, answered{.role = "assistant", .content = "2"};
        const Message now[] = {asked}, later[] = {asked, answered, asked};
        const std::string prompt = model.render_chat(now, options.chat).text.text;
        opening_lasts_ = model.render_chat(later, options.chat).text.text.starts_with(prompt);
      } catch (const Error&) {  // a template that refuses such messages
        opening_lasts_ = true;
      }
    }
    return *opening_lasts_;
  }

  // How much of a prompt a later one will begin with: all of it, or all but the opening of the answer.
  std::size_t lasting_bytes(std::span<const Message> messages, const PromptText& prompt) {
    const std::size_t all = prompt.text.size();
    if (own.raw || options.checkpoint_bytes == 0 || opening_lasts()) return all;
    ChatOptions unopened = options.chat;
    unopened.add_generation_prompt = false;
    const std::string question = model.render_chat(messages, unopened).text.text;
    return !question.empty() && prompt.text.starts_with(question) ? question.size() : all;
  }

  // Brings the session to hold a prompt, from `start` on. In two steps where a later prompt will begin with the first
  // one's end only, so that there is a checkpoint to begin from.
  bool read_question(std::span<const Message> messages, const PromptText& prompt, const Start& start,
                     const ConversationHooks& hooks, Turn& turn) {
    const PromptText question = prompt.first(lasting_bytes(messages, prompt));
    const bool ahead_of_it = own.held.prompt.empty() || own.held.beginning_of(question.text);
    if (question.text.size() == prompt.text.size() || !ahead_of_it) {
      return read(prompt, start.tokens, false, hooks, turn);
    }
    return read(question, start_of(question).tokens, false, hooks, turn) &&
           read(prompt, start_of(prompt).tokens, false, hooks, turn);
  }

  Turn answer(std::vector<Message> messages, const GenerationOptions& generating, const ConversationHooks& hooks) {
    const ChatPrompt prompt = render(messages);
    Generation generation(model, prompt.format, generating);
    Turn turn;
    const Start start = start_of(prompt.text);
    require_room(start.n_held, start.tokens.size(), generating.limits);
    turn.read_again = go_to(start, hooks);

    // A question that was not read to its end leaves no trace in the session.
    const std::size_t n_before = session->tokens().size();
    OnFailure forget([&, held = own.held] { take_back(n_before, held); });
    turn.n_held = start.n_held;
    if (!read_question(messages, prompt.text, start, hooks, turn)) {
      turn.answer.finish = Finish::kCancelled;
      return turn;
    }
    const std::size_t n_read = session->tokens().size();
    generation.begin(*session);
    const Writing writing{&generation, session.get()};
    write_answers(engine, {&writing, 1}, [&](std::size_t, std::string_view text) {
      if (hooks.on_text) hooks.on_text(text);
    });
    turn.answer = generation.answer();
    if (!turn.answered()) return turn;  // as stopped before
    remember(prompt, turn.answer, n_read);
    const ParsedAnswer& parsed = turn.answer.parsed;
    messages.push_back({.role = "assistant",
                        .content = parsed.content,
                        .reasoning = parsed.reasoning,
                        .tool_calls = parsed.tool_calls});
    take(std::move(messages));
    own.ahead.clear();
    forget.release();
    return turn;
  }

  // What a caller hands over need not begin with the opening.
  void take(std::vector<Message> messages) {
    own.messages = std::move(messages);
    const auto same = [](const Message& a, const Message& b) { return a.role == b.role && a.content == b.content; };
    const auto& opening = options.opening;
    const auto end =
        std::mismatch(own.messages.begin(), own.messages.end(), opening.begin(), opening.end(), same).first;
    own.n_opening = static_cast<std::size_t>(end - own.messages.begin());
    n_turns = static_cast<std::size_t>(
        std::count_if(end, own.messages.end(), [](const Message& m) { return m.role == "assistant"; }));
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
    own.held = {.prompt = prompt.text.text};
    if (answer.finish == Finish::kStop) {
      own.held.answered = fed_text(prompt.format, std::span(answer.tokens).first(n_fed));
    } else {
      own.held.answered = answer.text;
      own.held.pending.assign(answer.tokens.begin() + static_cast<std::ptrdiff_t>(n_fed), answer.tokens.end());
    }
  }

  Turn read_ahead(const std::string& text, const ConversationHooks& hooks) {
    const std::string ahead = own.ahead + text, mark = mark_for(ahead);
    std::vector<Message> messages = own.messages;
    messages.push_back({.role = "user", .content = ahead + mark});
    const PromptText whole = render(messages).text;
    const std::size_t end = whole.text.rfind(mark);
    if (end == whole.text.npos || !std::string_view(whole.text).substr(0, end).ends_with(ahead)) {
      throw Error({.subject = "chat template",
                   .expected = "one that writes messages as they are, to read the beginning of one ahead",
                   .found = "one that changes them"});
    }
    const PromptText beginning = whole.first(end);
    Turn turn;
    const Start start = start_of(beginning);
    require_room(start.n_held, start.tokens.size(), options.generation.limits);
    turn.read_again = go_to(start, hooks);
    turn.n_held = start.n_held;
    if (read(beginning, start.tokens, true, hooks, turn)) {
      own.ahead = ahead;
    } else {
      turn.answer.finish = Finish::kCancelled;
    }
    return turn;
  }

  // What a file has of it: the note beside the session, and checkpoints.
  struct Saved {
    SnapshotNote note;
    std::vector<const SessionCheckpoint*> checkpoints;
  };

  // Throws Error(kState) where no session is open.
  Saved saved() const {
    if (!session) {
      throw Error(
          {.kind = Error::Kind::kState, .subject = "conversation", .expected = "an open session", .found = "none"});
    }
    std::string text;
    for (const Token token : session->tokens()) text += model.piece(token, true);
    Saved saved;
    ConversationState state = own;
    for (const std::size_t i :
         most_useful(checkpoint_sizes(), session->tokens().size(), options.saved_checkpoint_bytes)) {
      saved.checkpoints.push_back(checkpoints[i].session.get());
      state.moments.push_back({checkpoints[i].n_messages, checkpoints[i].held});
    }
    saved.note = {kNote, to_json(state, text)};
    return saved;
  }

  // The session of a file, with as many of its checkpoints as may be kept.
  void open(const Snapshot& snapshot) {
    const SnapshotFacts& facts = snapshot.facts();
    if (own.moments.size() != facts.checkpoints.size()) {
      throw Error({.subject = snapshot.path() + ": conversation",
                   .expected = fmt::format("{} checkpoints", facts.checkpoints.size()),
                   .found = fmt::format("{}", own.moments.size())});
    }
    std::vector<CheckpointSize> sizes;
    for (const SavedCheckpoint& c : facts.checkpoints) sizes.push_back({c.n_tokens, c.bytes});
    const std::vector<std::size_t> kept = most_useful(sizes, facts.n_tokens, options.checkpoint_bytes);
    Engine::OpenedSession opened = engine.open(snapshot, kept);
    session = std::move(opened.session);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      HeldMoment& moment = own.moments[kept[i]];
      checkpoints.push_back({moment.n_messages, std::move(moment.held), std::move(opened.checkpoints[i])});
    }
    own.moments.clear();
  }

  const Model& model;
  Engine& engine;
  ConversationOptions options;
  std::unique_ptr<Session> session;
  ConversationState own;
  std::vector<Checkpoint> checkpoints;  // of this session, ascending
  std::size_t n_turns = 0;              // answers, without those of the opening
  std::size_t n_retries = 0;            // of the last question
  std::optional<bool> opening_lasts_;   // once it was asked
};

Conversation::Conversation(const Model& model, Engine& engine, ConversationOptions options)
    : state_(std::make_unique<State>(model, engine, std::move(options))) {
  state_->clear();
}

Conversation::Conversation(const Model& model, Engine& engine, ConversationOptions options, const Snapshot& snapshot)
    : state_(std::make_unique<State>(model, engine, std::move(options))) {
  State& s = *state_;
  const std::optional<std::string> note = snapshot.note(kNote);
  const std::string where = snapshot.path() + ": conversation";
  if (!note) throw Error({.subject = where, .expected = "one beside the session", .found = "none"});
  s.own = conversation_from(*note, snapshot.text(), where);
  // A model is the same with another template, or without one.
  if (!s.own.raw && !model.has_chat_template()) {
    throw Error({.subject = where,
                 .expected = "a model with a chat template, as it was held with",
                 .found = "one without",
                 .remedy = "`chat_template` gives it one"});
  }
  s.open(snapshot);
  s.options.session = s.session->options();
  s.options.raw = s.own.raw;
  s.options.parse_special = s.own.parse_special;
  const auto begin = s.own.messages.begin();
  s.options.opening.assign(begin, begin + static_cast<std::ptrdiff_t>(s.own.n_opening));
  s.take(std::move(s.own.messages));
}

Conversation::~Conversation() = default;

Turn Conversation::ask(const Message& question, const ConversationHooks& hooks) {
  State& s = *state_;
  std::vector<Message> messages = s.own.messages;
  messages.push_back(question);
  messages.back().content.insert(0, s.own.ahead);
  return answer(std::move(messages), hooks);
}

Turn Conversation::answer(std::vector<Message> messages, const ConversationHooks& hooks) {
  Turn turn = state_->answer(std::move(messages), state_->options.generation, hooks);
  state_->n_retries = 0;
  return turn;
}

Turn Conversation::retry(const ConversationHooks& hooks) {
  State& s = *state_;
  std::vector<Message> messages = s.own.messages;
  while (messages.size() > s.own.n_opening && messages.back().role == "assistant") messages.pop_back();
  if (messages.size() == s.own.n_opening) {
    throw Error({.kind = Error::Kind::kState, .subject = "conversation", .expected = "a question", .found = "none"});
  }
  GenerationOptions again = s.options.generation;
  again.sampling.seed = answer_seeds(again.sampling.seed, s.n_retries + 2).back();
  Turn turn = s.answer(std::move(messages), again, hooks);
  ++s.n_retries;
  return turn;
}

bool Conversation::undo() {
  const ConversationState& own = state_->own;
  std::size_t n = own.messages.size();
  while (n > own.n_opening && own.messages[n - 1].role != "user") --n;
  if (n <= own.n_opening) return false;
  state_->take({own.messages.begin(), own.messages.begin() + static_cast<std::ptrdiff_t>(n - 1)});
  state_->go_back_to_messages();
  return true;
}

Turn Conversation::read_ahead(const std::string& text, const ConversationHooks& hooks) {
  return state_->read_ahead(text, hooks);
}

void Conversation::save(const std::string& path) const {
  const State::Saved saved = state_->saved();
  state_->session->save(path, {&saved.note, 1}, saved.checkpoints);
}

std::uint64_t Conversation::saved_bytes() const {
  const State::Saved saved = state_->saved();
  return state_->session->saved_bytes({&saved.note, 1}, saved.checkpoints);
}

void Conversation::clear() { state_->clear(); }
const std::vector<Message>& Conversation::messages() const { return state_->own.messages; }
std::size_t Conversation::n_turns() const { return state_->n_turns; }
const std::string& Conversation::ahead() const { return state_->own.ahead; }
std::uint64_t Conversation::checkpoint_bytes() const { return state_->checkpoint_bytes(); }
const Session* Conversation::session() const { return state_->session.get(); }

}  // namespace lacake
