#pragma once

#include <string_view>

namespace lacake {

class Vocabulary;

// Reads a grammar in GBNF as libllama does, which writes to standard error by itself where one cannot be read: what
// passes here it reads in silence. Left recursion is not looked for (libllama reports it as an error of its own).
// Throws Error(kUsage) naming `grammar`, with the line where it goes wrong.
void check_gbnf(std::string_view grammar, const Vocabulary& vocabulary);

}  // namespace lacake
