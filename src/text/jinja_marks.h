#pragma once

#include <jinja/runtime.h>

#include <string>
#include <vector>

#include "lacake/chat.h"

namespace lacake {

// For the parts of llama.cpp's sources that run templates, and for the two files here that do. See jinja_hooks.h.

// Sets what every template may use: `range` within limits, and bos_token and eos_token as the template's own text.
void set_template_globals(jinja::context& context);

// Notes the result of a template in the KeptRenderings of this thread, if there is one.
const jinja::value& kept_rendering(const jinja::value& result);

// Everything but the template's own text is letters.
PromptText with_marks(const jinja::value& result);

// Keeps what templates render on this thread while it lives. May not be nested.
class KeptRenderings {
 public:
  KeptRenderings();
  ~KeptRenderings();
  KeptRenderings(const KeptRenderings&) = delete;
  KeptRenderings& operator=(const KeptRenderings&) = delete;

  // The marks of `prompt`, which llama.cpp's code made of something that a template rendered, by adding to it or
  // replacing in its middle. What it put there is no letters, but for `letters`: texts of the conversation that it
  // added, in their order. Where one of them is not found, all that was added is letters.
  PromptText marks_of(const std::string& prompt, const std::vector<std::string>& letters) const;

 private:
  friend const jinja::value& kept_rendering(const jinja::value& result);
  std::vector<jinja::value> results_;
};

}  // namespace lacake
