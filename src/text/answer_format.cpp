#include "text/answer_format.h"

#include <exception>
#include <utility>

#include "lacake/error.h"

namespace lacake {

ParsedAnswer AnswerFormat::State::parse(const std::string& text, bool) const { return {text, "", {}}; }

AnswerFormat::AnswerFormat() : state_(std::make_shared<State>()) {}
AnswerFormat::AnswerFormat(std::shared_ptr<const State> state) : state_(std::move(state)) {}

void AnswerFormat::apply_to(SamplerOptions& options) const {
  const State& s = *state_;
  if (!s.grammar.empty()) {
    if (!options.grammar.empty() || !options.json_schema.empty()) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = options.grammar.empty() ? "json_schema" : "grammar",
                   .expected = "none beside what the conversation asks for",
                   .found = "one, and tools or a schema for the answer's content"});
    }
    options.grammar = s.grammar;
    options.grammar_lazy = s.grammar_lazy;
    options.grammar_triggers = s.triggers;
    options.grammar_begun = s.begun;
  }
  options.reasoning_open = s.reasoning_open;
  options.reasoning_close = s.reasoning_close;
  options.reasoning_begun = s.begun;
}

const std::vector<std::string>& AnswerFormat::stops() const { return state_->stops; }
const std::vector<Token>& AnswerFormat::shown_tokens() const { return state_->shown_tokens; }
bool AnswerFormat::has_reasoning() const { return state_->has_reasoning; }
bool AnswerFormat::has_tool_calls() const { return state_->has_tool_calls; }

ParsedAnswer AnswerFormat::parse(std::string_view text, bool partial) const {
  try {
    return state_->parse(std::string(text), partial);
  } catch (const std::exception&) {
    return {std::string(text), "", {}};
  }
}

}  // namespace lacake
