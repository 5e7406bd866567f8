#include "prompt.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "base/blanks.h"
#include "base/files.h"
#include "checks.h"
#include "interrupt.h"
#include "lacake/error.h"
#include "library_options.h"
#include "output.h"
#include "sizing.h"
#include "text/utf8.h"

namespace lacake::cli {

namespace {

// As messages name it.
std::string text_name(const std::string& path) { return path == "-" ? "standard input" : path; }

std::string read_standard_input() {
  // What is read once is gone: for a second option nothing would be left.
  static bool taken = false;
  if (std::exchange(taken, true)) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = text_name("-"),
                 .expected = "\"-\" for one file",
                 .found = "it for two"});
  }
  return read_descriptor(STDIN_FILENO, text_name("-"));
}

}  // namespace

std::string read_text(const std::string& path) {
  std::string text = path == "-" ? read_standard_input() : read_file(path);
  require_utf8(text, text_name(path));
  return text;
}

std::string read_some_text(const std::string& path) {
  std::string text = read_text(path);
  require_some_text(text, text_name(path));
  return text;
}

void require_some_text(std::string_view text, std::string_view name, Error::Kind kind) {
  if (!without_blanks(text).empty()) return;
  throw Error({.kind = kind,
               .subject = std::string(name),
               .expected = "some text",
               .found = text.empty() ? "an empty one" : "none but white space"});
}

void require_utf8(std::string_view text, std::string_view name) {
  const auto offset = invalid_utf8_offset(text);
  if (!offset) return;
  throw Error({.subject = std::string(name),
               .expected = "UTF-8 text",
               .found = fmt::format("byte 0x{:02x} at offset {}, which belongs to no character",
                                    (unsigned char)text[*offset], *offset)});
}

std::optional<std::string> prompt_text(const Options& options) {
  if (!options.file && !options.prompt) return {};
  // Each by itself: an answer without the text would look like one about it.
  if (options.prompt && options.prompt->empty()) {
    throw Error({.subject = "--prompt", .expected = "some text", .found = "an empty one"});
  }
  if (!options.file) return options.prompt;
  std::string text = read_some_text(*options.file);
  if (options.prompt) {
    text.erase(text.find_last_not_of('\n') + 1);
    text += "\n\n" + *options.prompt;
  }
  return text;
}

Prompt make_prompt(const Model& model, const std::string& text, const Options& options) {
  Prompt prompt;
  if (!options.raw && !model.chat_notice().empty()) prompt.notices.push_back(model.chat_notice());
  if (options.raw || !model.has_chat_template()) {
    if (!options.raw) warn_without_template(options, kRun);  // inspect has the same flags
    prompt.chat = plain_prompt(model, text, options.parse_special);
    return prompt;
  }
  std::vector<Message> messages;
  if (options.system) messages.push_back({.role = "system", .content = *options.system});
  messages.push_back({.role = "user", .content = text});
  prompt.chat = model.chat(messages, chat_options(options));
  if (options.parse_special) prompt.chat = with_special_tokens(model, std::move(prompt.chat));
  return prompt;
}

GenerationOptions generation_options(const Options& options) {
  GenerationOptions generation{.sampling = sampler_options(options),
                               .stop = options.stop,
                               .limits = length_limits(options),
                               .cancel = interrupt_flag()};
  generation.sampling.ignore_eos = options.ignore_eos;
  if (options.logprobs) generation.log_probabilities = (std::size_t)(*options.logprobs);
  return generation;
}

}  // namespace lacake::cli
