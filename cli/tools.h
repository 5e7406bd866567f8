#pragma once

#include <string>
#include <vector>

#include "lacake/chat.h"

namespace lacake::cli {

// The tools of a file, a JSON list as OpenAI's chat API takes it:
//   [{"type": "function", "function": {"name": ..., "description": ..., "parameters": {JSON schema}}}, ...]
// Throws Error(kInput) naming the file and what is wrong in it.
std::vector<Tool> read_tools(const std::string& path);

}  // namespace lacake::cli
