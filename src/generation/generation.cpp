#include "lacake/generation.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/stopwatch.h"
#include "generation/answer_piece.h"
#include "lacake/error.h"
#include "text/stop_strings.h"
#include "text/utf8.h"

namespace lacake {
namespace {

SamplerOptions sampling_of(const AnswerFormat& format, const GenerationOptions& options) {
  SamplerOptions sampling = options.sampling;
  format.apply_to(sampling);
  return sampling;
}

std::vector<std::string> stops_of(const AnswerFormat& format, const GenerationOptions& options) {
  std::vector<std::string> stops = options.stop;
  if (std::find(stops.begin(), stops.end(), "") != stops.end()) {
    throw Error({.kind = Error::Kind::kUsage, .subject = "stop", .expected = "some text", .found = "none"});
  }
  stops.insert(stops.end(), format.stops().begin(), format.stops().end());
  return stops;
}

}  // namespace

struct Generation::State {
  State(const Model& m, const AnswerFormat& f, const GenerationOptions& o)
      : model(m), format(f), options(o), sampler(m, sampling_of(f, o)), stops(stops_of(f, o)) {
    answer.seed = sampler.seed();
  }

  bool cancelled() const { return options.cancel != nullptr && *options.cancel; }

  void add(std::string text) {
    answer.text += text;
    grown += text;
  }

  void end(Finish finish) {
    if (!stops.found()) {
      add(stops.push(characters.flush()));
      add(stops.flush());
    }
    if (stops.found()) {
      finish = Finish::kStop;
      answer.stop = stops.which();
    }
    answer.finish = finish;
    // The first token comes with the prompt; the last is fed only where the model's end token comes after it.
    const std::size_t n = answer.tokens.size(), fed = finish == Finish::kEnd || n == 0 ? n : n - 1;
    if (fed > 0) answer.token_ms = since_first.ms() / (double)fed;
    answer.parsed = format.parse(answer.text, false);
  }

  const Model& model;
  AnswerFormat format;
  GenerationOptions options;
  Sampler sampler;
  Utf8Stream characters;
  StopStrings stops;
  AnswerRoom room;
  Answer answer;
  std::string grown;  // what the last call added
  Stopwatch since_begin, since_first;
  bool begun = false;
};

Generation::Generation(const Model& model, const AnswerFormat& format, const GenerationOptions& options)
    : state_(std::make_unique<State>(model, format, options)) {}
Generation::~Generation() = default;
Generation::Generation(Generation&&) noexcept = default;
Generation& Generation::operator=(Generation&&) noexcept = default;

void Generation::begin(const Session& session) {
  State& s = *state_;
  assert(!s.begun);
  s.begun = true;
  s.sampler.observe(session.tokens());
  s.room = answer_room(s.model.facts(), session, s.options.limits);
  s.answer.limit = s.room.limit;
  s.since_begin = Stopwatch();
  if (s.cancelled()) {
    s.end(Finish::kCancelled);
  } else if (s.room.tokens == 0) {
    s.end(Finish::kLength);
  }
}

Generation::Step Generation::advance(std::span<const float> logits) {
  State& s = *state_;
  assert(s.begun && !finished());
  s.grown.clear();
  Answer& answer = s.answer;
  const Token token = s.sampler.sample(logits);
  if (answer.tokens.empty()) {
    answer.first_token_ms = s.since_begin.ms();
    s.since_first = Stopwatch();
  }
  if (!s.options.sampling.ignore_eos && s.model.is_end(token)) {
    s.end(Finish::kEnd);
    return {{}, s.grown};
  }

  answer.tokens.push_back(token);
  if (s.options.log_probabilities) {
    answer.log_probabilities.push_back(log_probabilities(logits, token, *s.options.log_probabilities));
  }
  s.add(s.stops.push(s.characters.push(answer_piece(s.model, s.format, token))));
  if (s.stops.found()) {
    s.end(Finish::kStop);
  } else if (answer.tokens.size() >= s.room.tokens) {
    s.end(Finish::kLength);
  } else if (s.cancelled()) {
    s.end(Finish::kCancelled);
  } else {
    return {token, s.grown};
  }
  return {{}, s.grown};
}

std::string_view Generation::cancel() {
  state_->grown.clear();
  if (!finished()) state_->end(Finish::kCancelled);
  return state_->grown;
}

bool Generation::finished() const { return state_->answer.finish != Finish::kNone; }
const Answer& Generation::answer() const { return state_->answer; }

ParsedAnswer Generation::parsed() const {
  return finished() ? state_->answer.parsed : state_->format.parse(state_->answer.text, true);
}

}  // namespace lacake
