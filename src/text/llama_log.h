#pragma once

#include <string>

namespace lacake {

// libllama and ggml share one log callback for the whole process and write to standard error until it is set. Sets one
// that prints nothing, the first time it is called; later calls leave alone what the application has set since.
void silence_llama_log();

// What libllama and ggml report as errors on this thread while this lives. May not be nested.
class LlamaErrors {
 public:
  LlamaErrors();
  ~LlamaErrors();
  LlamaErrors(const LlamaErrors&) = delete;
  LlamaErrors& operator=(const LlamaErrors&) = delete;

  // The first line reported, without the name of the reporting function: causes come before their consequences.
  // "" if there is none.
  std::string first() const;

 private:
  std::string text_;
};

}  // namespace lacake
