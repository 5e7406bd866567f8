#pragma once

#include <jinja/runtime.h>

#include <string>

namespace lacake {

// Reads a template. The engine's parser calls itself for each bracket, block and sign, so how deep they lie in each
// other is counted first: a template from a stranger must not overflow the stack.
// Throws std::exception with the engine's message.
jinja::program parse_template(const std::string& source);

}  // namespace lacake
