#include "lacake/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "base/stopwatch.h"
#include "generation/answer_piece.h"
#include "generation/answers.h"
#include "generation/checkpoints.h"
#include "generation/conversation_state.h"
#include "generation/openings.h"
#include "lacake/error.h"
#include "text/utf8.h"

namespace lacake {
namespace {

constexpr const char* kNote = "conversation";

// Something that is not in the text, and that no template changes.
std::string mark_for(const std::string& text) {
  for (int i = 0;; ++i) {
    std::string mark = fmt::format("@{}question@", i);
    if (text.find(mark) == text.npos) return mark;
  }
}

std::size_t pinned_of(const SessionOptions& session) { return pinned_tokens(session.policy.settings); }

}  // namespace

struct Conversation::State {
  State(const Model& m, Engine& e, ConversationOptions o) : model(m), engine(e), options(std::move(o)) {}

  void open(std::size_t n_pinned = 0) {
    const SessionOptions sized = pinning(n_pinned);
    close();  // before the next one is there: only one cache at a time
    session = engine.open(sized);
  }

  // Options whose policy lets so many first tokens stay, or more where it was asked for more.
  SessionOptions pinning(std::size_t n_pinned) const {
    SessionOptions sized = options.session;
    if (n_pinned <= pinned_of(sized)) return sized;
    const std::size_t size = engine.plan(sized).cache_size, most = size - size / 4;
    if (n_pinned > most) {
      throw Error({.kind = Error::Kind::kCapacity,
                   .subject = "opening",
                   .expected = fmt::format("{} tokens at most, of a budget of {} entries a layer", most, size),
                   .found = fmt::format("{} tokens", n_pinned),
                   .remedy = "a larger `kv_budget`"});
    }
    sized.policy.settings[kPinned] = n_pinned;
    return sized;
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
  }

  // The text of a prompt and how its answer is read, without tokens: most of it was fed already.
  ChatPrompt render(std::span<const Message> messages, const ChatOptions& chat) const {
    ChatPrompt prompt;
    if (own.raw) {
      std::string text;
      for (const Message& message : messages) text += message.content + "\n";
      prompt.text = PromptText::as_letters(std::move(text));
    } else {
      prompt = model.render_chat(messages, chat);
    }
    if (own.parse_special) prompt.text.letters.clear();
    return prompt;
  }

  // What stands in a prompt before the first question's words. 0: nothing, or nobody asks.
  struct OpeningSize {
    std::size_t n_bytes = 0, n_tokens = 0;
    bool is_shared() const { return n_tokens >= Openings::kLeastTokens; }
  };

  OpeningSize opening_size(std::span<const Message> messages, const PromptText& prompt, const ChatOptions& chat) const {
    if (own.raw || (!options.openings && !options.pins_opening)) return {};
    const PromptText opening = opening_of(model, messages, chat);
    if (opening.text.empty() || !prompt.text.starts_with(opening.text)) return {};
    return {opening.text.size(), model.tokenize(opening, true).size()};
  }

  // --- where to go on ------------------------------------------------------------------------------------------

  struct Checkpoint {
    std::size_t n_messages;  // of the conversation then: without the question that was being answered
    HeldText held;
    std::unique_ptr<SessionCheckpoint> session;
  };

  // From where a text can be read on, and the tokens that are missing there.
  struct Start {
    enum class From { kSession, kCheckpoint, kOpening, kNothing };
    From from = From::kNothing;
    std::size_t checkpoint = 0;
    std::size_t n_held = 0;
    std::vector<Token> tokens;
    std::shared_ptr<const Opening> opening = {};
    PromptText text = {};  // that is missing: of `tokens`, but for those of what was said already
  };

  Start start_of(const PromptText& text) const {
    const auto behind = [&](const HeldText& held, Start start) -> std::optional<Start> {
      const std::optional<std::size_t> n_bytes = held.beginning_of(text.text);
      if (!n_bytes) return {};
      start.tokens = held.pending;
      start.text = text.from(*n_bytes);
      const std::vector<Token> rest = model.tokenize(start.text, false);
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
    if (options.openings) {
      if (auto opening = options.openings->find(options.opening_group, text.text)) {
        PromptText rest = text.from(opening->text.size());
        std::vector<Token> tokens = model.tokenize(rest, false);
        return {Start::From::kOpening, 0, opening->stem->n_tokens(), std::move(tokens), opening, std::move(rest)};
      }
    }
    return {.tokens = model.tokenize(text, true), .text = text};
  }

  // Makes the session what `start` begins with; `opening` is that of a prompt of which nothing is held. True if
  // everything is read again.
  bool go_to(const Start& start, const OpeningSize& opening) {
    switch (start.from) {
      case Start::From::kSession:
        keep_checkpoint();
        return false;
      case Start::From::kCheckpoint:
        go_back(start.checkpoint);
        return false;
      case Start::From::kOpening:
      case Start::From::kNothing:
        break;
    }
    const bool again = n_turns > 0 || !own.ahead.empty();
    if (start.from == Start::From::kOpening) {
      close();
      session = engine.open(*start.opening->stem);
      own.held = {.prompt = start.opening->text};
      keep_checkpoint();
      return again;
    }
    const std::size_t pinned = options.pins_opening && options.session.policy.type->bounded ? opening.n_tokens : 0;
    const bool fresh = session && session->tokens().empty();
    if (!fresh || pinned_of(session->options()) != pinned_of(pinning(pinned))) open(pinned);
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
    std::vector<Checkpoint> stay;
    for (const std::size_t i : most_useful(checkpoint_sizes(), n_tokens, options.checkpoint_bytes - wanted)) {
      stay.push_back(std::move(checkpoints[i]));
    }
    checkpoints = std::move(stay);
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

  // Does a later prompt begin with all of this one? Not where the template opens an answer otherwise than it writes it
  // down later: with a mark of reasoning, which it leaves out of old answers. Asked of a conversation of a letter, once
  // as long as the options stay the same.
  bool answer_start_lasts(const ChatOptions& chat) {
    if (known_to_last && known_to_last->first == chat) return known_to_last->second;
    bool lasts = true;
    try {
      const Message asked{.role = "user", .content = "1"}, answered{.role = "assistant", .content = "2"};
      const Message now[] = {asked}, later[] = {asked, answered, asked};
      const std::string prompt = model.render_chat(now, chat).text.text;
      lasts = model.render_chat(later, chat).text.text.starts_with(prompt);
    } catch (const Error&) {  // a template that refuses such messages
    }
    known_to_last = {chat, lasts};
    return lasts;
  }

  // How much of a prompt a later one will begin with: all of it, or all but the start of the answer.
  std::size_t lasting_bytes(std::span<const Message> messages, const PromptText& prompt, const ChatOptions& chat) {
    const std::size_t all = prompt.text.size();
    if (own.raw || options.checkpoint_bytes == 0 || answer_start_lasts(chat)) return all;
    ChatOptions unopened = chat;
    unopened.add_generation_prompt = false;
    const std::string question = model.render_chat(messages, unopened).text.text;
    return !question.empty() && prompt.text.starts_with(question) ? question.size() : all;
  }

  // A text that is read at once.
  struct Part {
    PromptText text;  // from the beginning of the conversation
    bool is_opening = false;
  };

  // The prompt in parts that are read one after the other: first the opening, which others may begin with; and the end
  // by itself where a later prompt will begin with what stands before it only, so that there is a checkpoint to begin
  // from.
  std::vector<Part> parts_of(std::span<const Message> messages, const PromptText& prompt, const ChatOptions& chat,
                             const OpeningSize& opening) {
    std::vector<Part> parts;
    if (own.held.prompt.empty() && options.openings && opening.is_shared()) {
      parts.push_back({prompt.first(opening.n_bytes), true});
    }
    const PromptText question = prompt.first(lasting_bytes(messages, prompt, chat));
    const bool ahead_of_it = own.held.prompt.empty() || own.held.beginning_of(question.text);
    if (question.text.size() != prompt.text.size() && ahead_of_it) parts.push_back({question});
    parts.push_back({prompt});
    return parts;
  }

  // What a caller hands over need not begin with the opening.
  void take(std::vector<Message> messages) {
    own.messages = std::move(messages);
    const auto same = [](const Message& a, const Message& b) { return a.role == b.role && a.content == b.content; };
    const auto& opening = options.opening;
    const auto end =
        std::mismatch(own.messages.begin(), own.messages.end(), opening.begin(), opening.end(), same).first;
    own.n_opening = (std::size_t)(end - own.messages.begin());
    n_turns =
        (std::size_t)std::count_if(end, own.messages.end(), [](const Message& m) { return m.role == "assistant"; });
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
      own.held.pending.assign(answer.tokens.begin() + (std::ptrdiff_t)n_fed, answer.tokens.end());
    }
  }

  // The messages up to the end of what was read ahead, as text.
  PromptText text_ahead(const std::string& ahead) const {
    const std::string mark = mark_for(ahead);
    std::vector<Message> messages = own.messages;
    messages.push_back({.role = "user", .content = ahead + mark});
    const PromptText whole = render(messages, options.chat).text;
    const std::size_t end = whole.text.rfind(mark);
    if (end == whole.text.npos || !std::string_view(whole.text).substr(0, end).ends_with(ahead)) {
      throw Error({.subject = "chat template",
                   .expected = "one that writes messages as they are, to read the beginning of one ahead",
                   .found = "one that changes them"});
    }
    return whole.first(end);
  }

  // What a file has of it: the note beside the session, and checkpoints.
  struct Saved {
    SnapshotNote note;
    std::vector<const SessionCheckpoint*> checkpoints;
  };

  // Throws Error(kState) where no session is open.
  void require_session() const {
    if (session) return;
    throw Error(
        {.kind = Error::Kind::kState, .subject = "conversation", .expected = "an open session", .found = "none"});
  }

  Saved saved() const {
    require_session();
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
  std::vector<Checkpoint> checkpoints;                        // of this session, ascending
  std::size_t n_turns = 0;                                    // answers, without those of the opening
  std::optional<std::pair<ChatOptions, bool>> known_to_last;  // answer_start_lasts(), as it was asked last
};

namespace {

// A text on its way into the session of a conversation. Until keep() it leaves no trace.
class TextReading {
 public:
  explicit TextReading(Conversation::State& conversation) : c_(conversation) {}
  ~TextReading() {
    job_.reset();  // what it took back is what the conversation then finds
    if (begun_ && !kept_) c_.take_back(n_before_, held_before_);
  }
  TextReading(const TextReading&) = delete;
  TextReading& operator=(const TextReading&) = delete;

  // `opening_size` is asked where nothing of the text is held. `parts_of` gives what is read of it one after the other;
  // it is asked, with that size, when the session is where reading begins.
  template <class OpeningSizeOf, class PartsOf>
  void begin(const PromptText& text, bool more_follows, const LengthLimits& limits, const OpeningSizeOf& opening_size,
             const PartsOf& parts_of) {
    using State = Conversation::State;
    State::Start start = c_.start_of(text);
    require_room(start.n_held, start.tokens.size(), limits);
    turn.n_held = start.n_held;
    n_to_feed_ = start.tokens.size();
    const bool anew = start.from == State::Start::From::kNothing;
    const State::OpeningSize opening = anew ? opening_size() : State::OpeningSize();
    turn.read_again = c_.go_to(start, opening);
    n_before_ = c_.session->tokens().size();
    held_before_ = c_.own.held;
    begun_ = true;
    more_follows_ = more_follows;
    parts_ = parts_of(opening);
    if (parts_.size() == 1) tokens_ = std::move(start.tokens), text_ = std::move(start.text);
    start_part();
  }

  bool reading() const { return !parts_.empty(); }
  std::string_view reading_opening() const {
    return reading() && parts_.front().is_opening ? std::string_view(parts_.front().text.text) : std::string_view();
  }
  std::size_t n_to_feed() const { return std::max(n_to_feed_, turn.n_read); }
  std::size_t n_to_read() const { return n_to_feed() + n_repeat_; }
  double n_read() const { return (double)(turn.n_read + n_repeated_) + (job_ ? job_->n_tokens_done() : 0); }

  // A bounded step. True if there is more.
  bool read() {
    if (!reading()) return false;
    const Stopwatch watch;
    if (!job_->advance()) {
      job_.reset();
      part_read();
      start_part();
    }
    turn.read_ms += watch.ms();
    return reading();
  }

  // All of it. False: it was stopped.
  bool read_all(const std::atomic<bool>* cancel, const ConversationHooks& hooks) {
    if (turn.read_again && hooks.read_again) hooks.read_again(n_to_feed());
    while (read()) {
      if (cancel != nullptr && *cancel) return false;
      const auto done = std::min((std::size_t)n_read(), n_to_read());
      if (hooks.prompt_progress && !hooks.prompt_progress(done, n_to_read())) return false;
    }
    return true;
  }

  void keep() { kept_ = true; }

  Turn turn;

 private:
  void start_part() {
    for (; reading(); part_read()) {
      const Conversation::State::Part& part = parts_.front();
      if (!tokens_) {
        Conversation::State::Start start = c_.start_of(part.text);
        tokens_ = std::move(start.tokens), text_ = std::move(start.text);
      }
      // Of nothing at all, reading says what is wrong.
      if (!tokens_->empty() || c_.session->tokens().empty()) {
        Session* const session = c_.session.get();
        PrefillOptions options{.more_follows = more_follows_ || part.is_opening};
        options.probes = repeat_probes(c_.model, {&session, 1}, *tokens_, text_, !c_.own.raw, options.more_follows);
        for (const Probe& probe : options.probes) n_repeat_ += probe.tokens.size();
        job_ = c_.engine.start_prefill({&session, 1}, *tokens_, std::move(options));
        return;
      }
    }
  }
  void part_read() {
    turn.n_read += tokens_->size();
    n_repeated_ = n_repeat_;
    tokens_.reset();
    const Conversation::State::Part part = std::move(parts_.front());
    parts_.erase(parts_.begin());
    c_.own.held = {.prompt = part.text.text};
    c_.keep_checkpoint();
    if (part.is_opening) c_.options.openings->keep(c_.options.opening_group, part.text.text, *c_.session);
  }

  Conversation::State& c_;
  std::vector<Conversation::State::Part> parts_;  // that are still to be read; the job reads the first
  std::optional<std::vector<Token>> tokens_;      // of the first, once they are known
  PromptText text_;                               // that they are of
  std::unique_ptr<PrefillJob> job_;
  bool more_follows_ = false;
  bool begun_ = false;
  bool kept_ = false;
  std::size_t n_to_feed_ = 0;
  std::size_t n_repeat_ = 0, n_repeated_ = 0;  // tokens of repeats: of the parts so far, of those that are read
  std::size_t n_before_ = 0;
  HeldText held_before_;
};

}  // namespace

struct Reply::State {
  State(Conversation::State& c, std::vector<Message> m, const Asking& asking)
      : conversation(c),
        messages(std::move(m)),
        prompt(c.render(messages, asking.chat)),
        answers(c.model, prompt.format, asking.generation, asking.n_answers),
        reading(c) {}

  void begin(const Asking& asking) {
    reading.begin(
        prompt.text, false, asking.generation.limits,
        [&] { return conversation.opening_size(messages, prompt.text, asking.chat); },
        [&](const Conversation::State::OpeningSize& opening) {
          return conversation.parts_of(messages, prompt.text, asking.chat, opening);
        });
    if (!reading.reading()) begin_writing();
  }

  void begin_writing() {
    n_read = conversation.session->tokens().size();
    answers.begin(conversation.engine, *conversation.session);
  }

  Turn end() {
    Generation& first = *answers.writing()[0].generation;
    if (!first.finished()) first.cancel();
    Turn turn = reading.turn;
    turn.answer = first.answer();
    answers.close_copies();
    if (!turn.answered()) return turn;  // as stopped before
    conversation.remember(prompt, turn.answer, n_read);
    const ParsedAnswer& parsed = turn.answer.parsed;
    messages.push_back({.role = "assistant",
                        .content = parsed.content,
                        .reasoning = parsed.reasoning,
                        .tool_calls = parsed.tool_calls});
    conversation.take(std::move(messages));
    conversation.own.ahead.clear();
    conversation.own.n_retries = 0;
    reading.keep();
    return turn;
  }

  Conversation::State& conversation;
  std::vector<Message> messages;
  ChatPrompt prompt;
  Answers answers;
  TextReading reading;
  std::size_t n_read = 0;  // tokens that the session had been fed when the answers began
};

Reply::Reply(std::unique_ptr<State> state) : state_(std::move(state)) {}
Reply::~Reply() = default;
Reply::Reply(Reply&&) noexcept = default;
Reply& Reply::operator=(Reply&&) noexcept = default;

bool Reply::read() {
  if (state_->reading.read()) return true;
  if (state_->answers.writing().empty()) state_->begin_writing();
  return false;
}

bool Reply::reading() const { return state_->reading.reading(); }
std::string_view Reply::reading_opening() const { return state_->reading.reading_opening(); }
std::size_t Reply::n_to_feed() const { return state_->reading.n_to_feed(); }
std::size_t Reply::n_to_read() const { return state_->reading.n_to_read(); }
double Reply::n_read() const { return state_->reading.n_read(); }
std::span<const Writing> Reply::writing() const { return state_->answers.writing(); }
const Turn& Reply::turn() const { return state_->reading.turn; }
Turn Reply::end() { return state_->end(); }

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
  const std::size_t pinned = pinned_of(s.options.session);
  s.options.session = s.session->options();
  // How much stays follows from the messages, whenever they are read again.
  if (s.options.pins_opening && s.options.session.policy.type->bounded) {
    s.options.session.policy.settings[kPinned] = pinned;
  }
  s.options.raw = s.own.raw;
  s.options.parse_special = s.own.parse_special;
  const auto begin = s.own.messages.begin();
  s.options.opening.assign(begin, begin + (std::ptrdiff_t)s.own.n_opening);
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
  return answer(std::move(messages), state_->options.generation, hooks);
}

Turn Conversation::answer(std::vector<Message> messages, const GenerationOptions& generating,
                          const ConversationHooks& hooks) {
  const Asking asking{generating, state_->options.chat};
  Reply reply = begin(std::move(messages), asking);
  if (!reply.state_->reading.read_all(generating.cancel, hooks)) {
    Turn stopped = reply.turn();
    stopped.answer.finish = Finish::kCancelled;
    return stopped;
  }
  reply.read();  // nothing is left: the answer begins
  write_answers(state_->engine, reply.writing(), [&](std::size_t, std::string_view text) {
    if (hooks.on_text) hooks.on_text(text);
  });
  return reply.end();
}

Reply Conversation::begin(std::vector<Message> messages, const Asking& asking) {
  Reply reply(std::make_unique<Reply::State>(*state_, std::move(messages), asking));
  reply.state_->begin(asking);
  return reply;
}

std::size_t Conversation::n_held_of(std::span<const Message> messages, const ChatOptions& chat) const {
  const State::Start start = state_->start_of(state_->render(messages, chat).text);
  return start.from == State::Start::From::kOpening ? 0 : start.n_held;
}

Turn Conversation::retry(const ConversationHooks& hooks) {
  State& s = *state_;
  std::vector<Message> messages = s.own.messages;
  while (messages.size() > s.own.n_opening && messages.back().role == "assistant") messages.pop_back();
  if (messages.size() == s.own.n_opening) {
    throw Error({.kind = Error::Kind::kState, .subject = "conversation", .expected = "a question", .found = "none"});
  }
  const std::size_t n_retries = s.own.n_retries + 1;
  GenerationOptions again = s.options.generation;
  again.sampling.seed = answer_seeds(again.sampling.seed, n_retries + 1).back();
  Turn turn = answer(std::move(messages), again, hooks);
  s.own.n_retries = n_retries;
  return turn;
}

bool Conversation::undo() {
  const ConversationState& own = state_->own;
  std::size_t n = own.messages.size();
  while (n > own.n_opening && own.messages[n - 1].role != "user") --n;
  if (n <= own.n_opening) return false;
  state_->take({own.messages.begin(), own.messages.begin() + (std::ptrdiff_t)(n - 1)});
  state_->go_back_to_messages();
  return true;
}

Turn Conversation::read_ahead(const std::string& text, const ConversationHooks& hooks) {
  State& s = *state_;
  std::string ahead = s.own.ahead + text;
  const PromptText beginning = s.text_ahead(ahead);
  TextReading reading(s);
  using Size = State::OpeningSize;
  reading.begin(
      beginning, true, s.options.generation.limits, [] { return Size(); },
      [&](const Size&) { return std::vector{State::Part{beginning}}; });
  if (!reading.read_all(s.options.generation.cancel, hooks)) {
    reading.turn.answer.finish = Finish::kCancelled;
    return reading.turn;
  }
  s.own.ahead = std::move(ahead);
  reading.keep();
  return reading.turn;
}

void Conversation::save(const std::string& path) const {
  const State::Saved saved = state_->saved();
  state_->session->save(path, {&saved.note, 1}, saved.checkpoints);
}

std::string Conversation::saved() const {
  const State::Saved saved = state_->saved();
  return state_->session->saved({&saved.note, 1}, saved.checkpoints);
}

std::uint64_t Conversation::saved_bytes() const {
  const State::Saved saved = state_->saved();
  return state_->session->saved_bytes({&saved.note, 1}, saved.checkpoints);
}

void Conversation::resize(const Budget& budget) {
  State& s = *state_;
  s.require_session();
  s.session->resize(budget);
  s.checkpoints.clear();
}

void Conversation::clear() { state_->clear(); }
const std::vector<Message>& Conversation::messages() const { return state_->own.messages; }
std::size_t Conversation::n_turns() const { return state_->n_turns; }
const std::string& Conversation::ahead() const { return state_->own.ahead; }
std::uint64_t Conversation::checkpoint_bytes() const { return state_->checkpoint_bytes(); }
const Session* Conversation::session() const { return state_->session.get(); }

}  // namespace lacake
