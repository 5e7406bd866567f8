#include "reading.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "interrupt.h"
#include "lacake/sampler.h"
#include "output.h"

namespace lacake::cli {

PromptBar::PromptBar(const Progress& progress, std::string label)
    : bar_(progress.terminal, std::move(label), progress.quiet), stops_unread_(progress.stops_unread) {}

std::function<bool(std::size_t, std::size_t)> PromptBar::hook() {
  return [this](std::size_t done, std::size_t total) {
    bar_.show(done, total);
    output_gone_ = stops_unread_ && output_closed();
    return !output_gone_;
  };
}

void PromptBar::check_output() const {
  if (output_gone_) throw OutputClosed{};
}

PromptRead feed(const Model& model, Engine& engine, std::span<Session* const> sessions, const ChatPrompt& prompt,
                const Progress& progress) {
  PromptBar bar(progress);
  ReadOptions options{.progress = bar.hook(), .cancel = interrupt_flag()};
  options.probes = repeat_probes(model, sessions, prompt);
  PromptRead read = read_prompt(engine, sessions, prompt.tokens, options);
  bar.check_output();
  return read;
}

Perplexity score(Session& session, std::span<const Token> tokens, const Progress& progress) {
  ProgressBar bar(progress.terminal, "continuation", progress.quiet);
  double sum = 0;
  Perplexity result;
  for (std::size_t i = 0; i < tokens.size() && !interrupted(); ++i) {
    sum -= log_probabilities(session.logits(), tokens[i], 0).token.logprob;
    ++result.tokens;
    bar.show(i + 1, tokens.size());
    if (i + 1 < tokens.size()) session.step(tokens[i]);
  }
  result.value = std::exp(sum / (double)(std::max<std::size_t>(result.tokens, 1)));
  return result;
}

}  // namespace lacake::cli
