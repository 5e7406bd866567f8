#pragma once

// The files that a command line names, so that none is written over another that is still needed.

#include <string>
#include <vector>

#include "options.h"

namespace lacake::cli {

// A file as it stood on the command line, and what it is there: the flag before it, or "text".
struct NamedFile {
  std::string name;
  std::string path;
};

// The files that the options of a command name to be read: its model, its prompt, grammars, tools, ...
std::vector<NamedFile> files_read(const Options& options, Command command);

// Throws Error(kUsage) where a file that is to be written is one of those that are read, or is to be written twice: it
// would be lost.
void require_apart(const std::vector<NamedFile>& written, const std::vector<NamedFile>& read);

}  // namespace lacake::cli
