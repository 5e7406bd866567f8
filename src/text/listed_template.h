#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/chat.h"

namespace lacake {

// The some fifty chat templates that libllama recognises by name or by their looks and imitates. It runs none of them:
// default system messages, dates and refusals of the template are lost.

// Whether libllama has a template of this name.
bool is_listed_template(std::string_view name);

// `source`: a name or a template. All contents are letters. Throws Error(kInput) if libllama does not recognise it.
PromptText render_listed(const std::string& source, std::span<const Message> messages, bool add_generation_prompt);

}  // namespace lacake
