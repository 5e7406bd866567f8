#include "generation/repeat.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "lacake/error.h"
#include "lacake/policy_author.h"

namespace lacake {
namespace {

constexpr std::size_t kShown = 8;  // tokens of the chunk before that say where to begin

// A later turn of fewer tokens is not repeated.
constexpr std::size_t kLeastLater = 256;

bool wants_repeat(const Session& session, std::size_t n_new, bool more_follows) {
  const std::vector<std::size_t> held = session.use().entries_per_layer;
  const std::size_t n_held = *std::max_element(held.begin(), held.end());
  const Policy& policy = session.policy();
  if (policy.traits().repeat_chunk == 0) return false;
  const Measures asked = more_follows ? policy.measures_before_question(0, n_held + n_new, n_new)
                                      : policy.measures(Phase::kPrefill, 0, n_held + n_new, n_new);
  return asked.repeat != RepeatScore::kNone;
}

[[noreturn]] void refuse_streaming(const std::string& policy) {
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "policy " + policy,
               .expected = "`prefill` exact, so that the model can repeat the text",
               .found = "`prefill` streaming"});
}

// 0: nobody wants a repeat of so many tokens.
std::size_t wanted_chunk(std::span<Session* const> sessions, std::size_t n_new, bool more_follows) {
  std::size_t chunk = 0;
  for (const Session* session : sessions) {
    if (!wants_repeat(*session, n_new, more_follows)) continue;
    if (!session->tokens().empty() && n_new < kLeastLater) continue;
    const std::string& policy = session->options().policy.type->name;
    if (session->options().prefill != PrefillMode::kExact) refuse_streaming(policy);
    const std::size_t own = session->repeat_chunk(n_new);
    if (chunk > 0 && own != chunk) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "policy " + policy,
                   .expected = fmt::format("chunks of {} tokens, as others that read the same text", chunk),
                   .found = fmt::format("chunks of {}", own)});
    }
    chunk = own;
  }
  return chunk;
}

// What the template writes between a question's last word and the answer.
std::vector<Token> answer_turn(const Model& model) {
  const std::string words = "lacake's text";
  const Message asked[] = {{.role = "user", .content = words}};
  const PromptText prompt = model.render_chat(asked, {}).text;
  const std::size_t at = prompt.text.rfind(words);
  if (at == prompt.text.npos) {
    throw Error({.subject = "the chat template",
                 .expected = "one that shows the user's message, so that the model can be told to repeat a text",
                 .found = "one that does not"});
  }
  return model.tokenize(prompt.from(at + words.size()), false);
}

void append(std::vector<Token>& to, std::span<const Token> tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

}  // namespace

RepeatFrame repeat_frame(const Model& model, bool chat) {
  return {.first = model.tokenize(PromptText::as_letters(kRepeatFirst), false),
          .later = model.tokenize(PromptText::as_letters(kRepeatLater), false),
          .turn = chat ? answer_turn(model) : model.tokenize(PromptText::as_letters("\n"), false)};
}

std::vector<Probe> repeat_probes(std::span<const Token> tokens, const RepeatedText& text, std::size_t chunk,
                                 const RepeatFrame& frame) {
  std::vector<Probe> probes;
  for (std::size_t first = text.first; first < text.last; first += chunk) {
    Probe probe{.first = first, .last = std::min(first + chunk, text.last)};
    if (first == text.first) {
      append(probe.tokens, frame.first);
    } else {
      append(probe.tokens, frame.later);
      append(probe.tokens,
             tokens.subspan(first - std::min(kShown, first - text.first), std::min(kShown, first - text.first)));
    }
    append(probe.tokens, frame.turn);
    append(probe.tokens, tokens.subspan(first, probe.last - first));
    probes.push_back(std::move(probe));
  }
  return probes;
}

RepeatedText repeated_text(const Model& model, const PromptText& text, std::size_t n_tokens, bool chat) {
  if (text.letters.empty()) return {0, n_tokens, chat};
  // Roles and names are letters too, between which templates write.
  constexpr std::size_t kLeastBytes = 64;
  const auto is_text = [](const PromptText::Range& range) { return range.end - range.begin >= kLeastBytes; };
  const auto first = std::find_if(text.letters.begin(), text.letters.end(), is_text);
  const auto last = std::find_if(text.letters.rbegin(), text.letters.rend(), is_text);
  const bool any = first != text.letters.end();
  const PromptText said = text.from(any ? first->begin : text.letters.front().begin);
  const std::size_t end = any ? last->end : text.letters.back().end;
  const std::size_t n_behind = end == text.text.size() ? 0 : model.tokenize(text.from(end), false).size();
  // Counted from behind: what begins every text may stand in front, and tokens of what was said before.
  const std::size_t n_said = std::min(n_tokens, model.tokenize(said, false).size());
  return {n_tokens - n_said, n_tokens - std::min(n_said, n_behind), chat};
}

void require_exact_for_repeat(const SessionOptions& options, const AttentionShape& shape) {
  const PolicyType& type = *options.policy.type;
  if (options.prefill == PrefillMode::kExact || !type.bounded) return;
  const std::size_t least = type.min_cache_size(options.policy.settings, shape);
  if (type.make(options.policy.settings, shape, least)->traits().repeat_chunk > 0) refuse_streaming(type.name);
}

std::vector<Probe> repeat_probes(const Model& model, std::span<Session* const> sessions, std::span<const Token> tokens,
                                 const RepeatedText& text, bool more_follows) {
  const std::size_t chunk = wanted_chunk(sessions, tokens.size(), more_follows);
  if (chunk == 0 || text.first == text.last) return {};
  return repeat_probes(tokens, text, chunk, repeat_frame(model, text.chat));
}

std::vector<Probe> repeat_probes(const Model& model, std::span<Session* const> sessions, std::span<const Token> tokens,
                                 const PromptText& text, bool chat, bool more_follows) {
  if (wanted_chunk(sessions, tokens.size(), more_follows) == 0) return {};
  return repeat_probes(model, sessions, tokens, repeated_text(model, text, tokens.size(), chat), more_follows);
}

std::vector<Probe> repeat_probes(const Model& model, std::span<Session* const> sessions, const ChatPrompt& prompt,
                                 bool more_follows) {
  const std::vector<PromptText::Range> whole = {{0, prompt.text.text.size()}};
  const bool chat = model.has_chat_template() && prompt.text.letters != whole;
  return repeat_probes(model, sessions, prompt.tokens, prompt.text, chat, more_follows);
}

}  // namespace lacake
