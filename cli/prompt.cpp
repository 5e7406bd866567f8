#include "prompt.h"

#include <fmt/format.h>
#include <unistd.h>

#include "base/files.h"
#include "lacake/error.h"
#include "text/utf8.h"

namespace lacake::cli {
namespace {

[[noreturn]] void fail(const std::string& what) { throw Error(Error::Kind::kInput, what); }

}  // namespace

std::string read_text(const std::string& path) {
  const bool standard = path == "-";
  const std::string name = standard ? "standard input" : path;
  const std::string text = standard ? read_descriptor(STDIN_FILENO, name) : read_file(path);
  require_utf8(text, name);
  return text;
}

void require_utf8(std::string_view text, std::string_view name) {
  if (const auto offset = invalid_utf8_offset(text)) {
    fail(fmt::format("{}: not UTF-8 text: byte 0x{:02x} at offset {} belongs to no character", name,
                     static_cast<unsigned char>(text[*offset]), *offset));
  }
}

std::optional<std::string> prompt_text(const Options& options) {
  if (!options.file && !options.prompt) return {};
  std::string text;
  if (options.file) text = read_text(*options.file);
  if (options.prompt) require_utf8(*options.prompt, "--prompt");
  if (options.prompt && !options.prompt->empty()) {
    if (!text.empty()) {
      text.erase(text.find_last_not_of('\n') + 1);
      text += "\n\n";
    }
    text += *options.prompt;
  }
  if (text.empty()) {
    fail(fmt::format("{}: the prompt is empty, expected some text", options.file ? *options.file : "--prompt"));
  }
  return text;
}

Prompt make_prompt(const Model& model, const std::string& text, const Options& options) {
  Prompt prompt;
  prompt.raw = options.raw || !model.has_chat_template();
  if (!options.raw && !model.chat_notice().empty()) prompt.notices.push_back(model.chat_notice());
  std::string rendered = text;
  if (!prompt.raw) {
    std::vector<Message> messages;
    if (options.system) messages.push_back({"system", *options.system});
    messages.push_back({"user", text});
    rendered = model.chat_text(messages, true);
  } else if (options.system) {
    prompt.notices.emplace_back("--system has no effect on a prompt without chat template");
  }
  prompt.tokens = model.tokenize(rendered, true, true);
  if (prompt.tokens.empty()) fail("the prompt is empty: it has no tokens");
  return prompt;
}

}  // namespace lacake::cli
