#include <algorithm>
#include <utility>

#include "base/stopwatch.h"
#include "lacake/error.h"
#include "lacake/generation.h"

namespace lacake {
namespace {

// The hooks of one session's pass after another, or of the one that all sessions watch.
class Reading {
 public:
  Reading(const ReadOptions& options, std::span<const Token> tokens, std::size_t n_passes, PromptRead& read)
      : options_(options), tokens_(tokens), n_work_(tokens.size()), n_passes_(n_passes), read_(read) {
    for (const Probe& probe : options.probes) n_work_ += probe.tokens.size();
  }

  PrefillOptions hooks(std::size_t pass) {
    PrefillOptions hooks;
    hooks.probes = options_.probes;
    hooks.more_follows = options_.more_follows;
    hooks.progress = [this, pass](std::size_t done, std::size_t total) {
      if (options_.cancel != nullptr && *options_.cancel) return false;
      return !options_.progress || options_.progress(pass * n_work_ + std::min(done, total), n_passes_ * n_work_);
    };
    if (options_.log_probabilities && pass == 0) {
      hooks.all_logits = [this](std::size_t i, std::span<const float> logits) {
        if (i + 1 >= tokens_.size()) return;
        read_.log_probabilities.push_back(log_probabilities(logits, tokens_[i + 1], *options_.log_probabilities));
      };
    }
    return hooks;
  }

 private:
  const ReadOptions& options_;
  std::span<const Token> tokens_;
  std::size_t n_work_;  // tokens of a pass, with those of repeats
  std::size_t n_passes_;
  PromptRead& read_;
};

}  // namespace

ChatPrompt plain_prompt(const Model& model, std::string text, bool parse_special) {
  ChatPrompt prompt;
  if (parse_special) {
    prompt.text.text = std::move(text);
  } else {
    prompt.text = PromptText::as_letters(std::move(text));
  }
  prompt.tokens = model.tokenize(prompt.text, true);
  if (prompt.tokens.empty()) {
    throw Error({.kind = Error::Kind::kInput, .subject = "prompt", .expected = "some text", .found = "no tokens"});
  }
  return prompt;
}

ChatPrompt with_special_tokens(const Model& model, ChatPrompt prompt) {
  prompt.text.letters.clear();
  prompt.tokens = model.tokenize(prompt.text, true);
  return prompt;
}

PromptRead read_prompt(Engine& engine, std::span<Session* const> sessions, std::span<const Token> tokens,
                       const ReadOptions& options) {
  const bool together = std::all_of(sessions.begin(), sessions.end(), [](const Session* session) {
    return session->tokens().empty() && session->options().prefill == PrefillMode::kExact;
  });
  PromptRead read;
  const Stopwatch watch;
  const std::size_t n_passes = together ? 1 : sessions.size();
  Reading reading(options, tokens, n_passes, read);
  read.finished = true;
  for (std::size_t i = 0; read.finished && i < n_passes; ++i) {
    read.finished = engine.prefill(together ? sessions : sessions.subspan(i, 1), tokens, reading.hooks(i));
  }
  read.ms = watch.ms();
  return read;
}

void write_answers(Engine& engine, std::span<const Writing> writing,
                   const std::function<void(std::size_t, std::string_view)>& on_text) {
  std::vector<std::size_t> going;
  for (std::size_t i = 0; i < writing.size(); ++i) {
    if (!writing[i].generation->finished()) going.push_back(i);
  }
  std::vector<Engine::Next> batch;
  while (!going.empty()) {
    batch.clear();
    std::erase_if(going, [&](std::size_t i) {
      const Generation::Step step = writing[i].generation->advance(writing[i].session->logits());
      if (on_text && !step.text.empty()) on_text(i, step.text);
      if (step.feed) batch.push_back({writing[i].session, *step.feed});
      return !step.feed;
    });
    engine.step(batch);
  }
}

std::vector<Answer> generate(const Model& model, Engine& engine, std::span<Session* const> sessions,
                             const ChatPrompt& prompt, const GenerationOptions& options, const GenerationHooks& hooks) {
  const std::vector<std::uint32_t> seeds = answer_seeds(options.sampling.seed, sessions.size());
  std::vector<Generation> generations;
  std::vector<Writing> writing;
  generations.reserve(sessions.size());
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    GenerationOptions seeded = options;
    seeded.sampling.seed = seeds[i];
    generations.emplace_back(model, prompt.format, seeded);
    writing.push_back({&generations.back(), sessions[i]});
  }

  const bool going = read_prompt(engine, sessions, prompt.tokens,
                                 {.progress = hooks.prompt_progress,
                                  .cancel = options.cancel,
                                  .probes = repeat_probes(model, sessions, prompt)})
                         .finished;
  for (const Writing& w : writing) {
    if (going) {
      w.generation->begin(*w.session);
    } else {
      w.generation->cancel();
    }
  }
  write_answers(engine, writing, hooks.on_text);
  std::vector<Answer> answers;
  for (const Generation& generation : generations) answers.push_back(generation.answer());
  return answers;
}

Answer generate(const Model& model, Engine& engine, Session& session, const ChatPrompt& prompt,
                const GenerationOptions& options, const GenerationHooks& hooks) {
  Session* const sessions[] = {&session};
  return std::move(generate(model, engine, sessions, prompt, options, hooks).front());
}

}  // namespace lacake
