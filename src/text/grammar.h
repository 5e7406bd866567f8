#pragma once

#include <string>

#include "text/sampler_chain.h"

namespace lacake {

class Vocabulary;

// What holds an answer to the grammar or JSON schema of the options, already past what the prompt holds of it. Null
// without either. Prints nothing.
// Throws Error(kUsage) naming `grammar`, `json_schema` or `grammar_triggers`.
OwnedSampler make_grammar(const Vocabulary& vocabulary, const SamplerOptions& options);

// The tokens of a text that a chat template wrote, without the space that some tokenizers put in front of it.
std::vector<Token> tokens_of_template(const Vocabulary& vocabulary, const std::string& text);

}  // namespace lacake
