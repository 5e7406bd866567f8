#include "text/chat_template.h"

#include <cassert>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "lacake/error.h"
#include "text/vocabulary.h"

#ifdef LACAKE_HAVE_JINJA
#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#else
#include <llama.h>
#endif

namespace lacake {

#ifdef LACAKE_HAVE_JINJA

// With the engine of llama.cpp's sources (cmake/jinja.cmake).
namespace {

// The engine's messages go over several lines: where in the template, its source there, and what went wrong. The last
// is for the user; where the template itself complains (raise_exception), it is its author's sentence.
std::string in_one_line(std::string_view message) {
  constexpr std::string_view kCause = "\nError: ";
  constexpr std::string_view kRaised = "Jinja Exception: ";
  if (const std::size_t at = message.find(kCause); at != std::string_view::npos) {
    message.remove_prefix(at + kCause.size());
    if (message.starts_with(kRaised)) message.remove_prefix(kRaised.size());
  } else {
    message = message.substr(0, message.find('\n'));  // the rest draws the source
  }
  std::string line(message);
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  return line;
}

jinja::value text(const std::string& s) { return jinja::mk_val<jinja::value_string>(s); }

jinja::value list(std::span<const Message> messages) {
  auto all = jinja::mk_val<jinja::value_array>();
  for (const Message& message : messages) {
    auto one = jinja::mk_val<jinja::value_object>();
    one->insert("role", text(message.role));
    one->insert("content", text(message.content));
    all->push_back(one);
  }
  return all;
}

}  // namespace

bool ChatTemplate::has_jinja() { return true; }

std::string ChatTemplate::render(std::span<const Message> messages, const RenderOptions& options) const {
  assert(!empty());
  try {
    const jinja::program program = jinja::parse_from_tokens(jinja::lexer().tokenize(source_));
    jinja::context context(source_);
    if (options.now != 0) context.current_time = options.now;
    context.set_val("messages", list(messages));
    context.set_val("add_generation_prompt", jinja::mk_val<jinja::value_bool>(options.add_generation_prompt));
    context.set_val("bos_token", text(bos_));
    context.set_val("eos_token", text(eos_));
    for (const char* name : {"tools", "documents"}) context.set_val(name, jinja::mk_val<jinja::value_none>());
    const jinja::value results = jinja::runtime(context).execute(program);
    return jinja::runtime::gather_string_parts(results)->as_string().str();
  } catch (const std::exception& e) {
    throw Error(Error::Kind::kInput, "chat template: " + in_one_line(e.what()));
  }
}

#else

// libllama knows some fifty templates by their looks. It runs none of them: default system messages, dates and refusals
// of the template are lost.
bool ChatTemplate::has_jinja() { return false; }

std::string ChatTemplate::render(std::span<const Message> messages, const RenderOptions& options) const {
  assert(!empty());
  std::vector<llama_chat_message> chat;
  for (const Message& message : messages) chat.push_back({message.role.c_str(), message.content.c_str()});
  std::string out;
  const auto run = [&] {
    return llama_chat_apply_template(source_.c_str(), chat.data(), chat.size(), options.add_generation_prompt,
                                     out.data(), static_cast<std::int32_t>(out.size()));
  };
  const std::int32_t length = run();
  if (length < 0) {
    throw Error(Error::Kind::kInput,
                "chat template: expected one that libllama knows (built without a Jinja engine), found another");
  }
  out.resize(static_cast<std::size_t>(length));
  run();
  return out;
}

#endif

ChatTemplate::ChatTemplate(std::string source, std::string bos, std::string eos)
    : source_(std::move(source)), bos_(std::move(bos)), eos_(std::move(eos)) {}

ChatTemplate ChatTemplate::of(const Vocabulary& vocabulary) {
  const auto spelled = [&](std::optional<std::int32_t> token) {
    return token ? vocabulary.piece(*token, ControlTokens::kShown) : std::string();
  };
  return {vocabulary.chat_template(), spelled(vocabulary.bos()), spelled(vocabulary.eos())};
}

std::string ChatTemplate::notice() const {
  if (empty()) return "the model has no chat template: the text goes to it as it is";
  if (has_jinja()) return "";
  return "built without a Jinja engine: the chat template is recognised, not run; a default system message may be "
         "missing";
}

}  // namespace lacake
