#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "eval/python_random.h"
#include "eval/ruler/qa.h"

namespace lacake::eval {

// What is asked about a text, and how the answer begins.
struct RulerQuestion {
  std::string text, prefix;
  std::vector<std::string> answers;
};

// A text made up for its questions.
struct RulerText {
  std::string context;
  std::vector<RulerQuestion> questions;
};

// One of RULER's tasks, ready to make texts of any size.
struct RulerTask {
  std::string name;
  std::size_t most_new;  // tokens
  std::size_t smallest;  // size: sentences, words or documents, whatever the text is made of
  std::function<RulerText(PythonRandom&, std::size_t size)> make;
  bool any_answer = false;    // one of the answers is enough; all count otherwise
  bool one_question = false;  // there is nothing else to ask about its texts: they have one, however many are wanted
};

// What tasks are made from; a task whose material is missing has no `make`.
struct RulerMaterial {
  std::size_t length;               // tokens: cwe and fwe are easier when short
  std::string haystack;             // "" : none
  const RulerQa* qa = nullptr;      // for the task qa
  std::size_t first_question = 0;   // the one that qa's text is about; of several the first, the others follow it
  std::size_t questions = 1;        // about each text
  std::size_t vt_example_size = 5;  // sentences of noise in vt's example
};

// All of them, in RULER's order.
std::vector<RulerTask> ruler_tasks(const RulerMaterial& material);

// vt's solved example alone, to be sized to kExampleTokens.
constexpr std::size_t kExampleTokens = 500;
std::string vt_example(PythonRandom& random, std::size_t size);

// Where the question begins in an input that RULER made for a task; npos where it cannot be seen.
std::size_t ruler_question(const std::string& task, const std::string& input);

}  // namespace lacake::eval
