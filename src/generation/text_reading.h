#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/stopwatch.h"
#include "generation/conversation_session.h"
#include "lacake/sizing.h"

namespace lacake {

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
    // What cannot fit is refused before the session goes back for it, and loses what came after.
    c_.require_room(start);
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
    c_.own.held = {.prompt = part.text.text, .controls = control_places(c_.model, part.text)};
    c_.keep_checkpoint();
    if (part.is_opening)
      c_.options.openings->keep(c_.options.opening_group, part.text.text, c_.own.held.controls, *c_.session);
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

}  // namespace lacake
