#include "engine/prefill_job.h"

#include <algorithm>

#include "lacake/error.h"

namespace lacake {

PrefillJob::State::State(EngineState& engine, std::span<Session* const> sessions, std::span<const Token> tokens,
                         PrefillOptions options)
    : engine_(engine), tokens_(tokens.begin(), tokens.end()), options_(std::move(options)) {
  for (Session* session : sessions) sessions_.push_back(&session->state());
  divide();
  for (SessionState* s : sessions_) s->begin_reading(*this);
}

PrefillJob::State::~State() {
  if (end_ == End::kNone) take_back();
}

// One pass serves the sessions that store rows in the same types: hidden states depend on how rows are rounded. A
// session that streams is alone, and has a pass a chunk: chunks of nearly equal size, because a short last one would
// show its policy too few queries.
void PrefillJob::State::divide() {
  const std::size_t n = tokens_.size();
  const SessionState& first = *sessions_[0];
  if (first.options().prefill == PrefillMode::kStreaming) {
    const std::size_t n_chunks = (n + first.plan().chunk - 1) / first.plan().chunk;
    for (std::size_t i = 0; i < n_chunks; ++i) {
      parts_.push_back({sessions_, n * i / n_chunks, n * (i + 1) / n_chunks, true, i + 1 == n_chunks});
    }
    total_ = n;
    return;
  }
  for (SessionState* s : sessions_) {
    const auto same = [&](const Part& part) {
      return part.sessions[0]->options().types.text() == s->options().types.text();
    };
    const auto part = std::find_if(parts_.begin(), parts_.end(), same);
    if (part == parts_.end()) {
      parts_.push_back({{s}, 0, n, parts_.empty(), true});
    } else {
      part->sessions.push_back(s);
    }
  }
  std::size_t n_read = n;
  for (const Probe& probe : options_.probes) n_read += probe.tokens.size();
  total_ = n_read * parts_.size();
}

std::uint64_t PrefillJob::State::copy_bytes() const {
  std::uint64_t bytes = 0;
  for (const SessionCopy& copy : copies_) bytes += copy.bytes();
  return bytes;
}

void PrefillJob::State::keep_copies() {
  std::vector<SessionCopy> copies;
  for (const SessionState* s : sessions_) copies.push_back(s->copy());
  copies_ = std::move(copies);
}

void PrefillJob::State::begin_pass() {
  const Part& part = parts_[next_part_];
  PassOptions options{.tokens = std::span(tokens_).subspan(part.from, part.to - part.from),
                      .probes = options_.probes,
                      .first_index = part.from,
                      .last_logits = part.last,
                      .more_follows = options_.more_follows || part.to < tokens_.size()};
  if (part.shows_logits) options.all_logits = options_.all_logits;
  pass_ = std::make_unique<PrefillPass>(engine_, part.sessions, memory_, options);
}

bool PrefillJob::State::advance() {
  if (end_ == End::kLost) {
    throw Error({.kind = Error::Kind::kState,
                 .subject = "prefill job",
                 .expected = "open sessions",
                 .found = "one that was closed meanwhile; the others are as they were"});
  }
  if (end_ != End::kNone) return false;
  try {
    if (copies_.empty()) keep_copies();
    if (!pass_) begin_pass();
    pass_->advance();
    if (pass_->finished()) {
      work_done_ += pass_->work_done();
      pass_.reset();
      if (++next_part_ == parts_.size()) {
        end(/*finished*/ true);
        return false;
      }
    }
    const auto done = std::min((std::size_t)(n_tokens_done() + 0.5), total_);
    if (options_.progress && !options_.progress(done, total_)) take_back();
  } catch (...) {
    if (end_ == End::kNone) take_back();
    throw;
  }
  return end_ == End::kNone;
}

void PrefillJob::State::take_back() {
  for (std::size_t i = 0; i < copies_.size(); ++i) sessions_[i]->restore(copies_[i]);
  end(/*finished*/ false);
}

void PrefillJob::State::end(bool finished) {
  for (SessionState* s : sessions_) s->end_reading();
  end_ = finished ? End::kFinished : End::kTakenBack;
  pass_.reset();
  copies_.clear();
  memory_ = {};
}

void PrefillJob::State::lose(const SessionState& session) {
  const auto lost = std::find(sessions_.begin(), sessions_.end(), &session);
  if (!copies_.empty()) copies_.erase(copies_.begin() + (lost - sessions_.begin()));
  sessions_.erase(lost);
  take_back();
  end_ = End::kLost;
}

PrefillJob::PrefillJob(std::unique_ptr<State> state) : state_(std::move(state)) {}
PrefillJob::~PrefillJob() = default;
bool PrefillJob::advance() { return state_->advance(); }
bool PrefillJob::finished() const { return state_->finished(); }
std::size_t PrefillJob::n_tokens() const { return state_->n_tokens(); }
double PrefillJob::n_tokens_done() const { return state_->n_tokens_done(); }
std::uint64_t PrefillJob::bytes() const { return state_->bytes(); }
std::uint64_t PrefillJob::copy_bytes() const { return state_->copy_bytes(); }

}  // namespace lacake
