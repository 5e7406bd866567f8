#include "generation/conversation_session.h"

#include <fmt/format.h>

#include <algorithm>

#include "generation/answer_piece.h"
#include "lacake/error.h"
#include "text/utf8.h"

namespace lacake {
namespace {

// Something that is not in the text, and that no template changes.
std::string mark_for(const std::string& text) {
  for (int i = 0;; ++i) {
    std::string mark = fmt::format("@{}question@", i);
    if (text.find(mark) == text.npos) return mark;
  }
}

}  // namespace

std::size_t pinned_of(const SessionOptions& session) { return pinned_tokens(session.policy.settings); }

void Conversation::State::open(std::size_t n_pinned) {
  const SessionOptions sized = pinning(n_pinned);
  close();  // before the next one is there: only one cache at a time
  session = engine.open(sized);
}

SessionOptions Conversation::State::pinning(std::size_t n_pinned) const {
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

void Conversation::State::close() {
  checkpoints.clear();
  session.reset();
  own.held = {};
}

void Conversation::State::clear() {
  open();
  own = {.raw = options.raw, .parse_special = options.parse_special};
  take(options.opening);
}

ChatPrompt Conversation::State::render(std::span<const Message> messages, const ChatOptions& chat) const {
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

Conversation::State::OpeningSize Conversation::State::opening_size(std::span<const Message> messages,
                                                                   const PromptText& prompt,
                                                                   const ChatOptions& chat) const {
  if (own.raw || (!options.openings && !options.pins_opening)) return {};
  const PromptText opening = opening_of(model, messages, chat);
  if (opening.text.empty() || !prompt.text.starts_with(opening.text)) return {};
  return {opening.text.size(), model.tokenize(opening, true).size()};
}

Conversation::State::Start Conversation::State::start_of(const PromptText& text) const {
  const std::vector<ControlPlace> controls = control_places(model, text);
  const auto behind = [&](const HeldText& held, Start start) -> std::optional<Start> {
    const std::optional<std::size_t> n_bytes = held.beginning_of(text.text, controls);
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
    if (auto opening = options.openings->find(options.opening_group, text.text, controls)) {
      PromptText rest = text.from(opening->text.size());
      std::vector<Token> tokens = model.tokenize(rest, false);
      return {Start::From::kOpening, 0, opening->stem->n_tokens(), std::move(tokens), opening, std::move(rest)};
    }
  }
  return {.tokens = model.tokenize(text, true), .text = text};
}

void Conversation::State::require_room(const Start& start) const {
  if (!session) return;
  const bool goes_on = start.from == Start::From::kSession || start.from == Start::From::kCheckpoint;
  // A new one is as long as this one, unless this one comes from a file.
  if (!goes_on && session->plan().cache_size != engine.plan(options.session).cache_size) return;
  session->require_room(start.n_held, start.tokens.size());
}

bool Conversation::State::go_to(const Start& start, const OpeningSize& opening) {
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
    own.held = {.prompt = start.opening->text, .controls = start.opening->controls};
    keep_checkpoint();
    return again;
  }
  const std::size_t pinned = options.pins_opening && options.session.policy.type->bounded ? opening.n_tokens : 0;
  const bool fresh = session && session->tokens().empty();
  if (!fresh || pinned_of(session->options()) != pinned_of(pinning(pinned))) open(pinned);
  return again;
}

std::uint64_t Conversation::State::checkpoint_bytes() const {
  std::uint64_t bytes = 0;
  for (const Checkpoint& c : checkpoints) bytes += c.session->bytes();
  return bytes;
}

std::vector<CheckpointSize> Conversation::State::checkpoint_sizes() const {
  std::vector<CheckpointSize> sizes;
  for (const Checkpoint& c : checkpoints) sizes.push_back({c.session->n_tokens(), c.session->bytes()});
  return sizes;
}

void Conversation::State::keep_checkpoint() {
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

void Conversation::State::go_back(std::size_t checkpoint) {
  session->go_back(*checkpoints[checkpoint].session);
  own.held = checkpoints[checkpoint].held;
  checkpoints.resize(checkpoint + 1);
}

void Conversation::State::go_back_to_messages() {
  if (!session || session->status() != SessionStatus::kReady) return;
  const auto is_there = [&](const Checkpoint& c) {
    const bool all_read = c.held.answered.empty() && c.held.prompt.ends_with(own.ahead);
    return c.n_messages == own.messages.size() && (own.ahead.empty() || all_read);
  };
  const auto there = std::find_if(checkpoints.begin(), checkpoints.end(), is_there);
  if (there != checkpoints.end()) go_back((std::size_t)(there - checkpoints.begin()));
}

void Conversation::State::take_back(std::size_t n_tokens, const HeldText& held) {
  if (session->status() == SessionStatus::kReady && session->tokens().size() == n_tokens) return;
  while (!checkpoints.empty() && checkpoints.back().session->n_tokens() > n_tokens) checkpoints.pop_back();
  const bool there = !checkpoints.empty() && checkpoints.back().session->n_tokens() == n_tokens;
  if (!there || session->status() != SessionStatus::kReady) return close();
  session->go_back(*checkpoints.back().session);
  own.held = held;
}

bool Conversation::State::answer_start_lasts(const ChatOptions& chat) {
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

std::size_t Conversation::State::lasting_bytes(std::span<const Message> messages, const PromptText& prompt,
                                               const ChatOptions& chat) {
  const std::size_t all = prompt.text.size();
  if (own.raw || options.checkpoint_bytes == 0 || answer_start_lasts(chat)) return all;
  ChatOptions unopened = chat;
  unopened.add_generation_prompt = false;
  const std::string question = model.render_chat(messages, unopened).text.text;
  return !question.empty() && prompt.text.starts_with(question) ? question.size() : all;
}

std::vector<Conversation::State::Part> Conversation::State::parts_of(std::span<const Message> messages,
                                                                     const PromptText& prompt, const ChatOptions& chat,
                                                                     const OpeningSize& opening) {
  std::vector<Part> parts;
  if (own.held.prompt.empty() && options.openings && opening.is_shared()) {
    parts.push_back({prompt.first(opening.n_bytes), true});
  }
  const PromptText question = prompt.first(lasting_bytes(messages, prompt, chat));
  const bool ahead_of_it =
      own.held.prompt.empty() || own.held.beginning_of(question.text, control_places(model, question));
  if (question.text.size() != prompt.text.size() && ahead_of_it) parts.push_back({question});
  parts.push_back({prompt});
  return parts;
}

void Conversation::State::take(std::vector<Message> messages) {
  std::erase_if(own.begun_ahead, [&](const BegunAhead& begun) {
    const auto beginning = [&](const std::vector<Message>& of) {
      return std::string_view(of[begun.message].content).substr(0, begun.n_bytes);
    };
    return begun.message >= messages.size() || beginning(messages) != beginning(own.messages);
  });
  own.messages = std::move(messages);
  const auto same = [](const Message& a, const Message& b) { return a.role == b.role && a.content == b.content; };
  const auto& opening = options.opening;
  const auto end = std::mismatch(own.messages.begin(), own.messages.end(), opening.begin(), opening.end(), same).first;
  own.n_opening = (std::size_t)(end - own.messages.begin());
  n_turns = (std::size_t)std::count_if(end, own.messages.end(), [](const Message& m) { return m.role == "assistant"; });
}

std::size_t Conversation::State::n_begun_ahead(std::size_t message) const {
  for (const BegunAhead& begun : own.begun_ahead) {
    if (begun.message == message) return begun.n_bytes;
  }
  return 0;
}

void Conversation::State::ask_ahead(std::size_t message) {
  if (!own.ahead.empty() && message < own.messages.size() && own.messages[message].content.starts_with(own.ahead)) {
    own.begun_ahead.push_back({message, own.ahead.size()});
  }
  own.ahead.clear();
}

std::string Conversation::State::fed_text(const AnswerFormat& format, std::span<const Token> fed) const {
  Utf8Stream characters;
  std::string text;
  for (const Token token : fed) text += characters.push(answer_piece(model, format, token));
  return text + characters.flush();
}

void Conversation::State::remember(const ChatPrompt& prompt, const Answer& answer, std::size_t n_read) {
  const std::size_t n_fed = session->tokens().size() - n_read;
  own.held = {.prompt = prompt.text.text, .controls = control_places(model, prompt.text)};
  std::span<const Token> held = answer.tokens;
  if (answer.finish == Finish::kStop) {
    held = held.first(n_fed);
    own.held.answered = fed_text(prompt.format, held);
  } else {
    own.held.answered = answer.text;
    own.held.pending.assign(answer.tokens.begin() + (std::ptrdiff_t)n_fed, answer.tokens.end());
  }
  add_control_places(model, held, own.held.answered, prompt.text.text.size(), own.held.controls);
}

PromptText Conversation::State::text_ahead(const std::string& ahead) const {
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

void Conversation::State::require_session() const {
  if (session) return;
  throw Error({.kind = Error::Kind::kState, .subject = "conversation", .expected = "an open session", .found = "none"});
}

Conversation::State::Saved Conversation::State::saved() const {
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
  saved.note = {kConversationNote, to_json(state, text)};
  return saved;
}

void Conversation::State::open(const Snapshot& snapshot) {
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

}  // namespace lacake
