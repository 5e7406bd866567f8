#include "serve/answer_pieces.h"

#include <algorithm>
#include <utility>

#include "serve/random_id.h"

namespace lacake::cli {

AnswerPiece AnswerPieces::next(std::string_view text, const Generation& generation) {
  if (parses_) return text.empty() ? AnswerPiece() : grown(generation.parsed(), false);
  n_content_ += text.size();
  return {.content = std::string(text)};
}

AnswerPiece AnswerPieces::rest(const Answer& answer) { return grown(answer.parsed, true); }

std::string AnswerPieces::call_id(const ToolCall& call, std::size_t index) {
  while (calls_.size() <= index) calls_.push_back({});
  if (calls_[index].id.empty()) calls_[index].id = call.id.empty() ? random_id("call_") : call.id;
  return calls_[index].id;
}

AnswerPiece AnswerPieces::grown(const ParsedAnswer& parsed, bool whole) {
  AnswerPiece piece;
  const auto take = [](const std::string& text, std::size_t& n) {
    const std::size_t from = std::min(n, text.size());
    n = std::max(n, text.size());
    return text.substr(from);
  };
  piece.content = take(parsed.content, n_content_);
  piece.reasoning = take(parsed.reasoning, n_reasoning_);
  for (std::size_t i = 0; i < parsed.tool_calls.size(); ++i) {
    const ToolCall& call = parsed.tool_calls[i];
    const bool begins = calls_.size() <= i;
    if (begins && call.name.empty() && !whole) break;
    CallPiece grown{.index = i, .begins = begins};
    grown.id = call_id(call, i);
    grown.name = call.name;
    grown.arguments = take(call.arguments, calls_[i].n_arguments);
    if (begins || !grown.arguments.empty()) piece.calls.push_back(std::move(grown));
  }
  return piece;
}

}  // namespace lacake::cli
