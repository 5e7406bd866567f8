#include "text/listed_template.h"

#include <llama.h>

#include <algorithm>

#include "base/blanks.h"
#include "lacake/error.h"
#include "lacake/model.h"
#include "text/chat_template.h"

namespace lacake {
namespace {

std::string imitated(const std::string& source, std::span<const Message> messages, bool add_generation_prompt) {
  std::vector<llama_chat_message> chat;
  for (const Message& message : messages) chat.push_back({message.role.c_str(), message.content.c_str()});
  std::string out;
  const auto run = [&] {
    return llama_chat_apply_template(source.c_str(), chat.data(), chat.size(), add_generation_prompt, out.data(),
                                     (std::int32_t)out.size());
  };
  const std::int32_t length = run();
  if (length < 0) {
    throw Error({.subject = "chat template",
                 .expected = "one that libllama knows, as this build runs none",
                 .found = "another"});
  }
  out.resize((std::size_t)length);
  run();
  return out;
}

// Stands for the content of a message: a text that occurs in no template.
std::string placeholder(std::size_t i) { return "\x01lacake" + std::to_string(i) + "\x02"; }

}  // namespace

std::vector<std::string> chat_template_names() {
  std::vector<const char*> names((std::size_t)llama_chat_builtin_templates(nullptr, 0));
  llama_chat_builtin_templates(names.data(), names.size());
  return {names.begin(), names.end()};
}

bool is_listed_template(std::string_view name) {
  const std::vector<std::string> names = chat_template_names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Rendered with placeholders that have a space on both sides: a template that trims contents takes the spaces off.
PromptText render_listed(const std::string& source, std::span<const Message> messages, bool add_generation_prompt) {
  std::vector<Message> stand_ins;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    stand_ins.push_back({messages[i].role, " " + placeholder(i) + " "});
  }
  const std::string frame = imitated(source, stand_ins, add_generation_prompt);
  PromptText result;
  std::size_t done = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    std::size_t at = frame.find(placeholder(i), done);
    if (at == frame.npos) continue;  // the template leaves this message out
    std::size_t end = at + placeholder(i).size();
    std::string content = text_of(messages[i]);
    if (at > done && frame[at - 1] == ' ' && end < frame.size() && frame[end] == ' ') {
      --at, ++end;
    } else {
      content = std::string(without_blanks(content));
    }
    result.text += frame.substr(done, at - done);
    if (!content.empty()) result.letters.push_back({result.text.size(), result.text.size() + content.size()});
    result.text += content;
    done = end;
  }
  result.text += frame.substr(done);
  return result;
}

}  // namespace lacake
