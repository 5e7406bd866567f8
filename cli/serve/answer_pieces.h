#pragma once

// What an answer grew by, as streams tell it.

#include <string>
#include <string_view>
#include <vector>

#include "lacake/generation.h"

namespace lacake::cli {

struct CallPiece {
  std::size_t index = 0;
  bool begins = false;  // the first piece of the call, with name and id
  std::string id, name, arguments;
};
struct AnswerPiece {
  std::string content, reasoning;
  std::vector<CallPiece> calls;
  bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
};

// Content, reasoning and calls of one answer as they come.
class AnswerPieces {
 public:
  // `parses`: whether the answer may be anything but its text as content.
  explicit AnswerPieces(bool parses) : parses_(parses) {}
  AnswerPiece next(std::string_view text, const Generation& generation);
  // What is left when it has ended.
  AnswerPiece rest(const Answer& answer);
  // The ids of calls, made up where the model gives none.
  std::string call_id(const ToolCall& call, std::size_t index);

 private:
  AnswerPiece grown(const ParsedAnswer& parsed, bool whole);

  bool parses_;
  std::size_t n_content_ = 0, n_reasoning_ = 0;
  struct Call {
    std::string id;
    std::size_t n_arguments = 0;
  };
  std::vector<Call> calls_;
};

}  // namespace lacake::cli
