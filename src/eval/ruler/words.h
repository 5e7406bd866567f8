#pragma once

#include <string>
#include <vector>

namespace lacake::eval {

// Common English words, each once: nouns and adjectives, for keys and word lists.
const std::vector<std::string>& nouns();
const std::vector<std::string>& adjectives();

}  // namespace lacake::eval
