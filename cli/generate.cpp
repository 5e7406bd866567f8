#include "generate.h"

#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "interrupt.h"
#include "output.h"
#include "text/utf8.h"

namespace lacake::cli {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// Logits with the tokens that end an answer made impossible.
class Endless {
 public:
  explicit Endless(const Model& model) {
    for (Token token = 0; token < model.facts().n_vocab; ++token) {
      if (model.is_end(token)) ends_.push_back(token);
    }
  }

  std::span<const float> operator()(std::span<const float> logits) {
    copy_.assign(logits.begin(), logits.end());
    for (const Token token : ends_) copy_[static_cast<std::size_t>(token)] = -std::numeric_limits<float>::infinity();
    return copy_;
  }

 private:
  std::vector<Token> ends_;
  std::vector<float> copy_;
};

double log_probability(std::span<const float> logits, Token token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return logits[static_cast<std::size_t>(token)] - largest - std::log(sum);
}

}  // namespace

bool feed(Engine& engine, std::span<Session* const> sessions, std::span<const Token> tokens, const Progress& progress,
          std::string label) {
  ProgressBar bar(progress.terminal, std::move(label), progress.quiet);
  bool reader_gone = false;
  PrefillHooks hooks;
  hooks.progress = [&](std::size_t done, std::size_t total) {
    bar.show(done, total);
    reader_gone = output_closed();
    return !interrupted() && !reader_gone;
  };
  const bool done =
      sessions.size() == 1 ? sessions[0]->prefill(tokens, hooks) : engine.prefill(sessions, tokens, hooks);
  if (!done && reader_gone) throw OutputClosed{};
  return done;
}

Answer generate(const Model& model, Session& session, Sampler& sampler, const AnswerOptions& options) {
  Answer answer;
  Utf8Stream stream;
  std::optional<Endless> endless;
  if (options.ignore_eos) endless.emplace(model);
  const auto emit = [&](const std::string& text) {
    answer.text += text;
    if (options.on_text && !text.empty()) options.on_text(text);
  };

  const Clock::time_point begin = Clock::now();
  Clock::time_point first = begin;
  answer.stopped = "length";
  if (options.most == 0) answer.logits_hash = logits_hash(session.logits());
  while (answer.ids.size() < options.most) {
    if (interrupted()) {
      answer.stopped = "interrupt";
      break;
    }
    const auto logits = session.logits();
    answer.logits_hash = logits_hash(logits);
    const Token token = sampler.sample(endless ? (*endless)(logits) : logits);
    if (answer.ids.empty()) {
      answer.first_token_ms = ms_since(begin);
      first = Clock::now();
    }
    if (!options.ignore_eos && model.is_end(token)) {
      answer.stopped = "end";
      break;
    }
    answer.ids.push_back(token);
    emit(stream.push(model.piece(token)));
    if (answer.ids.size() < options.most) session.step(token);
  }
  emit(stream.flush());
  const std::size_t fed = answer.ids.size() - (answer.stopped == "length" && !answer.ids.empty() ? 1 : 0);
  if (fed > 0) answer.decode_ms = ms_since(first) / static_cast<double>(fed);
  return answer;
}

Perplexity score(Session& session, std::span<const Token> tokens, const Progress& progress) {
  ProgressBar bar(progress.terminal, "continuation", progress.quiet);
  double sum = 0;
  Perplexity result;
  for (std::size_t i = 0; i < tokens.size() && !interrupted(); ++i) {
    sum -= log_probability(session.logits(), tokens[i]);
    ++result.tokens;
    bar.show(i + 1, tokens.size());
    if (i + 1 < tokens.size()) session.step(tokens[i]);
  }
  result.value = std::exp(sum / static_cast<double>(std::max<std::size_t>(result.tokens, 1)));
  return result;
}

std::uint64_t logits_hash(std::span<const float> logits) { return XXH3_64bits(logits.data(), logits.size_bytes()); }

}  // namespace lacake::cli
