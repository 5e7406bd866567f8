#pragma once

// From a prompt to an answer's text. The whole of a program that asks one question:
//
//     const lacake::Message question{"user", "Why is the sky blue?"};
//     const lacake::ChatPrompt prompt = model.chat({&question, 1});
//     auto session = engine.open(lacake::sized_for_answer(engine, model.facts(), options, prompt.tokens.size(), {}));
//     const lacake::Answer answer = lacake::generate(model, engine, *session, prompt, {.stop = {"\n\n"}});
//
// A server that serves many at once feeds the prompts itself, holds a Generation beside each Session, and puts what
// they ask for into one Engine::step:
//
//     generation.begin(*session);
//     while (!generation.finished()) {
//       const auto step = generation.advance(session->logits());
//       send(step.text);
//       if (step.feed) session->step(*step.feed);
//     }
//
// Threads: a Generation belongs to one thread at a time, its session and its engine too. GenerationOptions::cancel may
// be set from any thread and in a signal handler.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/chat.h"
#include "lacake/engine.h"
#include "lacake/sampler.h"
#include "lacake/sizing.h"

namespace lacake {

// Why an answer ended.
enum class Finish {
  kNone,       // it goes on
  kEnd,        // the model ended it
  kStop,       // one of the strings of `stop` came
  kLength,     // a length was reached: Answer::limit says which
  kCancelled,  // `cancel` was set, or a hook said so
};

struct GenerationOptions {
  SamplerOptions sampling = {};
  // Strings that end the answer. They do not become part of its text, nor does what comes behind them.
  std::vector<std::string> stop = {};
  LengthLimits limits = {};
  // Set: the answer has the log-probability of each of its tokens, and the so many likeliest beside it.
  std::optional<std::size_t> log_probabilities = {};
  // Looked at once a token and in every progress call of a prompt; true ends the work. Borrowed.
  const std::atomic<bool>* cancel = nullptr;
};

struct Answer {
  std::string text;           // whole UTF-8 characters; cut before a stop string
  std::vector<Token> tokens;  // all that were chosen, those of a stop string too, without the token that ended it
  Finish finish = Finish::kNone;
  LengthLimit limit = LengthLimit::kAnswer;         // which length, if finish is kLength
  std::string stop;                                 // which string, if finish is kStop
  std::vector<LogProbabilities> log_probabilities;  // of each of `tokens`, if asked
  ParsedAnswer parsed;                              // `text` by the prompt's format, once it has ended
  std::uint32_t seed = 0;                           // that the tokens were drawn with
  double first_token_ms = 0;                        // from begin() until the first token was chosen
  std::optional<double> token_ms;                   // a token, mean over those after the first
};

// One answer as it comes, token by token.
class Generation {
 public:
  // Borrows the model and options.cancel. Throws Error(kUsage) for options that cannot be used: do this before a long
  // prompt is read.
  Generation(const Model& model, const AnswerFormat& format, const GenerationOptions& options);
  ~Generation();
  Generation(Generation&&) noexcept;
  Generation& operator=(Generation&&) noexcept;

  // The answer to what `session` was fed. The session is only looked at; it may be another object later that was fed
  // the same.
  void begin(const Session& session);

  struct Step {
    std::optional<Token> feed;  // must be fed before the next advance(); none: the answer has ended
    std::string_view text;      // what the answer's text grew by; until the next advance()
  };
  // Chooses the next token. Tokens that only may become a stop string or a whole character add their text later.
  //   logits  [n_vocab]  of the token that was fed last
  // The last token of an answer is chosen, not fed. Throws Error(kInput) where a grammar allows no token; the answer
  // then has what came before. REQUIRES: begun, !finished().
  Step advance(std::span<const float> logits);

  // Ends it now, by kCancelled, if it has not ended. Returns what was held back of the text; until the next call.
  std::string_view cancel();

  bool finished() const;
  const Answer& answer() const;  // so far
  // The text so far as content, reasoning and calls of tools; what there is of each only grows until the answer ends.
  // Costs time in proportion to the text.
  ParsedAnswer parsed() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A prompt that is text and no chat. `parse_special`: "<|im_start|>" in it is the token, not its letters.
// Throws Error(kInput) if it has no tokens.
ChatPrompt plain_prompt(const Model& model, std::string text, bool parse_special);
// The prompt with all of it read so, what messages say too.
ChatPrompt with_special_tokens(const Model& model, ChatPrompt prompt);

// Which of the tokens that are fed the model is to repeat.
struct RepeatedText {
  std::size_t first = 0, last = 0;
  bool chat = true;  // the repeat is written as an assistant's answer in the model's chat template
};

// For policies that judge entries by a repeat (PolicyTraits::repeat_chunk): probes in which the model is told to repeat
// the text, a chunk each, and the chunk's own tokens as its answer (KVzip). They are read with the text that `sessions`
// are fed next, together; reading them costs up to twice what reading the text does. There are none if no policy
// asks, or for a later turn of fewer than 256 tokens, whose entries stay because they are new. Throws Error(kUsage) if
// a session that needs a repeat streams its prompts, or two need chunks of different sizes.
//
// `more_follows`: as in PrefillOptions; a policy may want a repeat then, and none of a text with its question.
std::vector<Probe> repeat_probes(const Model& model, std::span<Session* const> sessions, std::span<const Token> tokens,
                                 const RepeatedText& text, bool more_follows = false);
// The same for a rendered prompt: `tokens` end with the tokens of `text`. What messages say is repeated, from the first
// stretch of letters (PromptText) of 64 bytes or more to the end of the last; shorter ones are taken for roles and
// names, unless all are short.
std::vector<Probe> repeat_probes(const Model& model, std::span<Session* const> sessions, std::span<const Token> tokens,
                                 const PromptText& text, bool chat, bool more_follows = false);
std::vector<Probe> repeat_probes(const Model& model, std::span<Session* const> sessions, const ChatPrompt& prompt,
                                 bool more_follows = false);
// Throws Error(kUsage) if these options combine streaming prefill with a policy that needs a repeat.
void require_exact_for_repeat(const SessionOptions& options, const AttentionShape& shape);

struct ReadOptions {
  // Tokens' worth of work done, of all. False stops it.
  std::function<bool(std::size_t done, std::size_t total)> progress = {};
  const std::atomic<bool>* cancel = nullptr;  // as in GenerationOptions
  // Set: the log-probability of each token of the prompt, and the so many likeliest in its place. Costs a product with
  // the vocabulary for each token.
  std::optional<std::size_t> log_probabilities = {};
  std::vector<Probe> probes = {};  // as in PrefillOptions
  bool more_follows = false;       // likewise
};

struct PromptRead {
  bool finished = false;                            // false: it was stopped
  double ms = 0;                                    // that it took
  std::vector<LogProbabilities> log_probabilities;  // [i] is of token i + 1; the first token has none
};

// Feeds a prompt to sessions, each of which will give an answer of its own. Where several are empty and read exactly,
// they watch one pass. Throws what Session::prefill throws.
PromptRead read_prompt(Engine& engine, std::span<Session* const> sessions, std::span<const Token> tokens,
                       const ReadOptions& options = {});

// A generation that has begun, and the session that it goes on in.
struct Writing {
  Generation* generation = nullptr;
  Session* session = nullptr;
};

// Advances all of them, one Engine::step a token, until the last has ended. `on_text` gets what each text grows by.
// Throws what Generation::advance, Engine::step and `on_text` throw; each answer then has what came before.
void write_answers(Engine& engine, std::span<const Writing> writing,
                   const std::function<void(std::size_t index, std::string_view text)>& on_text = {});

struct GenerationHooks {
  std::function<bool(std::size_t done, std::size_t total)> prompt_progress = {};
  std::function<void(std::size_t index, std::string_view text)> on_text = {};
};

// An answer from each session to one prompt, all of the above in one call. The first answer has the seed of the
// options, the others have seeds that follow from it. Where the prompt was stopped, the answers are kCancelled and
// empty.
std::vector<Answer> generate(const Model& model, Engine& engine, std::span<Session* const> sessions,
                             const ChatPrompt& prompt, const GenerationOptions& options,
                             const GenerationHooks& hooks = {});
Answer generate(const Model& model, Engine& engine, Session& session, const ChatPrompt& prompt,
                const GenerationOptions& options, const GenerationHooks& hooks = {});

}  // namespace lacake
