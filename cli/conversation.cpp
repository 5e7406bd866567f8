#include "conversation.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "commands.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

// Templates like to strip what the model wrote.
std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

}  // namespace

Conversation::Conversation(const Model& model, Engine& engine, SessionOptions sized, const SamplerOptions& sampling,
                           const Options& options, const Progress& progress)
    : model_(model),
      engine_(engine),
      sized_(std::move(sized)),
      options_(options),
      progress_(progress),
      sampler_(model, sampling) {
  clear();
}

// A session that lost its prompt can only be opened anew; the messages stay and are fed again with the next question.
void Conversation::open() {
  session_.reset();  // before the next one is there: only one arena at a time
  session_ = engine_.open(sized_);
  rendered_.clear();
  answer_.clear();
  pending_.clear();
}

void Conversation::clear() {
  open();
  messages_.clear();
  turns_ = 0;
  if (options_.system) messages_.push_back({"system", *options_.system});
}

// The tokens by which the session is behind the conversation.
std::vector<Token> Conversation::unfed(const std::string& rendered, const std::string& question) {
  std::vector<Token> tokens = pending_;
  std::string added = rendered;
  bool begins = rendered_.empty();
  if (!begins) {
    const std::string as_written = rendered_ + answer_;
    const std::string as_trimmed = rendered_ + trimmed(answer_);
    if (rendered.starts_with(as_written)) {
      added = rendered.substr(as_written.size());
    } else if (rendered.starts_with(as_trimmed)) {
      added = rendered.substr(as_trimmed.size());
    } else {
      notice(options_, "the chat template rewrites earlier turns: the new one is added to them as they were");
      const Message alone[] = {{"user", question}};
      added = model_.chat_text(alone, true);
    }
  }
  const std::vector<Token> rest = model_.tokenize(added, true, begins);
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  return tokens;
}

Turn Conversation::ask(const std::string& question, const std::function<void(std::string_view)>& on_text) {
  messages_.push_back({"user", question});
  const std::uint64_t held = session_->use().held_bytes;
  try {
    const bool raw = !model_.has_chat_template();
    // Without a template the session has the text itself, turn after turn.
    const std::string rendered = raw ? rendered_ + answer_ + (rendered_.empty() ? "" : "\n") + question + "\n"
                                     : model_.chat_text(messages_, true);
    const std::vector<Token> tokens = unfed(rendered, question);
    const auto begin = std::chrono::steady_clock::now();
    Session* const sessions[] = {session_.get()};
    if (!feed(engine_, sessions, tokens, progress_)) {
      open();
      messages_.pop_back();
      return {"interrupt"};
    }
    prefill_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    prefilled_ += tokens.size();
    rendered_ = rendered;
    answer_.clear();
    pending_.clear();
  } catch (const Error&) {
    messages_.pop_back();
    if (session_->use().held_bytes != held) open();
    throw;
  }

  sampler_.reset();
  sampler_.observe(session_->tokens());
  const std::size_t before = session_->tokens().size();
  last_ = generate(
      model_, *session_, sampler_,
      {.most = longest_answer(options_, *session_, sized_), .ignore_eos = options_.ignore_eos, .on_text = on_text});
  const std::size_t fed = session_->tokens().size() - before;
  pending_.assign(last_.ids.begin() + static_cast<std::ptrdiff_t>(fed), last_.ids.end());
  answer_ = last_.text;
  messages_.push_back({"assistant", last_.text});
  ++turns_;
  return {last_.stopped};
}

std::string Conversation::stats() const {
  const CacheUse use = session_->use();
  std::string text = fmt::format("{} turn{}, {} tokens\n", turns_, turns_ == 1 ? "" : "s", session_->tokens().size());
  if (prefilled_ > 0) {
    text += fmt::format("questions read at {:.1f} tokens/s", static_cast<double>(prefilled_) / prefill_s_);
    if (last_.decode_ms) text += fmt::format(", last answer written at {:.1f} tokens/s", 1e3 / *last_.decode_ms);
    text += "\n";
  }
  text += fmt::format("KV {} held of {} (full cache {})\n", bytes_text(use.held_bytes), bytes_text(use.budget_bytes),
                      bytes_text(use.full_bytes));
  return text + fmt::format("peak memory {} of {} planned\n", bytes_text(peak_resident_bytes()),
                            bytes_text(session_->plan().memory.total()));
}

}  // namespace lacake::cli
