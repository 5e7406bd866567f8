#include "lacake/conversation.h"

#include <optional>
#include <utility>

#include "generation/conversation_session.h"
#include "generation/reply_state.h"
#include "generation/text_reading.h"
#include "lacake/error.h"

namespace lacake {

Conversation::Conversation(const Model& model, Engine& engine, ConversationOptions options)
    : state_(std::make_unique<State>(model, engine, std::move(options))) {
  state_->clear();
}

Conversation::Conversation(const Model& model, Engine& engine, ConversationOptions options, const Snapshot& snapshot)
    : state_(std::make_unique<State>(model, engine, std::move(options))) {
  State& s = *state_;
  const std::optional<std::string> note = snapshot.note(kConversationNote);
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
  s.take(s.own.messages);
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
  std::string ahead = s.own.ahead;  // of the question after this one
  Turn turn = answer(std::move(messages), again, hooks);
  s.own.n_retries = n_retries;
  s.own.ahead = std::move(ahead);
  return turn;
}

bool Conversation::undo() {
  ConversationState& own = state_->own;
  std::size_t n = own.messages.size();
  while (n > own.n_opening && own.messages[n - 1].role != "user") --n;
  if (n <= own.n_opening) return false;
  // A book is not forgotten with the question that was asked about it.
  const std::string ahead = own.messages[n - 1].content.substr(0, state_->n_begun_ahead(n - 1));
  state_->take({own.messages.begin(), own.messages.begin() + (std::ptrdiff_t)(n - 1)});
  own.ahead.insert(0, ahead);
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
