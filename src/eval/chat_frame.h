#pragma once

#include <string>

#include "eval/answers.h"
#include "lacake/model.h"

namespace lacake::eval {

// What a model's chat template puts around a user's message before the model answers.
struct ChatFrame {
  std::string before, after;
  bool trims = false;  // white space around the message is taken off

  // Nothing around it: raw text, and models without a template.
  ChatFrame() = default;
  // Throws Error(kInput) with the template's words where it refuses.
  explicit ChatFrame(const Model& model);

  bool empty() const { return before.empty() && after.empty(); }
  std::size_t n_tokens(const Model& model) const;

  // Puts the frame around context and question; `answer` is how the answer begins, behind the frame.
  void put_around(Sample& sample, const std::string& answer = "") const;
};

}  // namespace lacake::eval
