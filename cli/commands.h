#pragma once

#include <string>

#include "options.h"

namespace lacake::cli {

// One function a command. Each returns the program's exit status, and throws Error or OutputClosed.
int run(const Options& options);
int chat(const Options& options);
int ingest(const Options& options);
int calibrate(const Options& options);
int inspect(const Options& options);
int bench(const Options& options);
int eval(const Options& options);
int serve(const Options& options);
int policies(const Options& options);

// A line for the user on standard error, unless --quiet: progress and what is good to know, never a loss (warn()).
void notice(const Options& options, const std::string& line);

}  // namespace lacake::cli
