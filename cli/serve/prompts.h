#pragma once

// What `prompt` of a request may be that is no chat.

#include <nlohmann/json.hpp>
#include <vector>

#include "serve/api.h"

namespace lacake::cli {

// One prompt, or a list of them: texts, lists of tokens, or llama-server's objects. A list with a token in it is one
// prompt. Throws Error(kUsage) naming the field.
std::vector<ChatPrompt> prompts_of(const Api& api, const nlohmann::json& prompt);

}  // namespace lacake::cli
