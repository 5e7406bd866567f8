#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "generate.h"
#include "options.h"

namespace lacake::cli {

struct Turn {
  std::string stopped;  // as Answer::stopped; "interrupt" also where the question itself was stopped
};

// Questions and answers over one session. The whole conversation is rendered by the model's chat template each time,
// but only what was added is fed.
class Conversation {
 public:
  // Borrows model, engine, options and progress's terminal.
  Conversation(const Model& model, Engine& engine, SessionOptions sized, const SamplerOptions& sampling,
               const Options& options, const Progress& progress);

  // Throws Error(kCapacity) if the question does not fit any more; the conversation is then as it was.
  Turn ask(const std::string& question, const std::function<void(std::string_view)>& on_text);

  void clear();
  std::string stats() const;

 private:
  void open();
  std::vector<Token> unfed(const std::string& rendered, const std::string& question);

  const Model& model_;
  Engine& engine_;
  SessionOptions sized_;
  const Options& options_;
  Progress progress_;
  Sampler sampler_;
  std::unique_ptr<Session> session_;

  std::vector<Message> messages_;
  std::string rendered_;        // what the template made of the conversation when it was last fed; "": nothing was
  std::string answer_;          // what the model wrote after that
  std::vector<Token> pending_;  // chosen, shown, but not fed yet

  std::size_t turns_ = 0;
  double prefill_s_ = 0;
  std::size_t prefilled_ = 0;
  Answer last_;
};

}  // namespace lacake::cli
