#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lacake::eval {

// Questions about documents, the distractors of which fill a text.
struct RulerQa {
  struct Question {
    std::string text;
    std::vector<std::string> answers;
    std::vector<std::size_t> documents;  // that answer it
    std::vector<std::size_t> nearby;     // distractors that come first: of the same article
  };
  std::string task;                    // "qa_1": SQuAD 2.0, "qa_2": HotpotQA
  std::vector<std::string> documents;  // sorted, each once
  std::vector<Question> questions;     // answerable ones, in the file's order
};

// Of a file as published: SQuAD 2.0's {"data": [...]} or HotpotQA's list. Throws Error(kInput) naming `name`.
RulerQa parse_ruler_qa(std::string_view name, std::string_view text);

}  // namespace lacake::eval
