#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/error.h"
#include "lacake/generation.h"
#include "lacake/model.h"
#include "options.h"

namespace lacake::cli {

// The whole of a text file; "-" is standard input, which can be read once. Throws Error(kInput) naming the file if it
// cannot be read or is not UTF-8 (with the offset of the first wrong byte), Error(kUsage) for a second "-".
std::string read_text(const std::string& path);

// The same; throws Error(kInput) too if there is nothing but white space in it.
std::string read_some_text(const std::string& path);

// The same check for a text from elsewhere; `name` says where in the message.
void require_some_text(std::string_view text, std::string_view name, Error::Kind kind = Error::Kind::kInput);

// The same check for a text from elsewhere; `name` says where in the message.
void require_utf8(std::string_view text, std::string_view name);

// FILE, then TEXT, as given by -f and -p: joined by a blank line if there are both. Empty: neither was given. Throws
// Error(kInput) if one that was given has no text in it.
std::optional<std::string> prompt_text(const Options& options);

// A question as the model is to see it, and what the user should know of it, a line each.
struct Prompt {
  ChatPrompt chat;
  std::vector<std::string> notices;
};

// In the model's chat template, with --system before it; as it is with --raw, or where the model has no template.
// Control tokens that are written out in the text are letters, but with --parse-special. Throws Error(kInput) if no
// token comes of it.
Prompt make_prompt(const Model& model, const std::string& text, const Options& options);

// What the options say of every answer; Ctrl-C cancels it.
GenerationOptions generation_options(const Options& options);

}  // namespace lacake::cli
