#pragma once

#include <functional>
#include <span>
#include <string>

#include "lacake/generation.h"
#include "terminal.h"

namespace lacake::cli {

// How to show that something goes on, and for how long it does.
struct Progress {
  const Terminal& terminal;
  bool quiet;
  // Whether a prompt stops where nobody reads standard output any more. Not where a file is made of it.
  bool stops_unread = true;
};

// A progress bar for a prompt, as a hook. Ctrl-C stops the prompt by GenerationOptions::cancel; the hook stops it where
// nobody reads standard output any more (Progress::stops_unread).
class PromptBar {
 public:
  explicit PromptBar(const Progress& progress, std::string label = "prompt");

  std::function<bool(std::size_t done, std::size_t total)> hook();
  // Throws OutputClosed if that is why the prompt was stopped.
  void check_output() const;

 private:
  ProgressBar bar_;
  const bool stops_unread_;
  bool output_gone_ = false;
};

// Feeds a prompt to sessions that watch it together, with a progress bar. False if Ctrl-C stopped it; throws
// OutputClosed if nobody reads the answer any more.
PromptRead feed(const Model& model, Engine& engine, std::span<Session* const> sessions, const ChatPrompt& prompt,
                const Progress& progress);

struct Perplexity {
  std::size_t tokens = 0;
  double value = 0;  // exp of the mean negative log probability
};

// Feeds a given text and measures how likely it was, token by token; the first from the logits that are there. Stops
// early at Ctrl-C. REQUIRES: tokens not empty.
Perplexity score(Session& session, std::span<const Token> tokens, const Progress& progress);

}  // namespace lacake::cli
