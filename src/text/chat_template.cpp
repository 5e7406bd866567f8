#include "text/chat_template.h"

#include <cassert>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/nearest.h"
#include "lacake/error.h"
#include "lacake/model.h"
#include "text/listed_template.h"
#include "text/vocabulary.h"

#ifdef LACAKE_HAVE_JINJA
#include <jinja/caps.h>
#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <json.h>

#include "text/jinja_limits.h"
#include "text/jinja_marks.h"
#include "text/template_depth.h"
#endif

namespace lacake {
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
  return std::string(message);
}

// Ollama's templates are Go's: {{ .Prompt }}, {{- if .System }}.
bool is_go_template(std::string_view source) {
  for (std::size_t at = 0; (at = source.find("{{", at)) != source.npos;) {
    at += 2;
    if (at < source.size() && source[at] == '-') ++at;
    const std::size_t word = source.find_first_not_of(' ', at);
    if (word == source.npos) return false;
    const std::string_view rest = source.substr(word);
    if (rest.starts_with('.') || rest.starts_with('$')) return true;
    for (const std::string_view keyword : {"if ", "range ", "with "}) {
      if (!rest.starts_with(keyword)) continue;
      const std::string_view operand = rest.substr(keyword.size());
      if (operand.starts_with('.') || operand.starts_with('$')) return true;
    }
  }
  return false;
}

constexpr const char* kGoTemplate = "a Go template, as Ollama has them; a Jinja template is needed";

}  // namespace

std::string text_of(const Message& message) {
  const auto refuse = [](std::string expected, std::string found) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "messages",
                 .expected = std::move(expected),
                 .found = std::move(found)});
  };
  if (message.parts.empty()) return message.content;
  if (!message.content.empty()) refuse("content or parts", "both");
  std::string text;
  for (const ContentPart& part : message.parts) {
    if (part.type != "text") refuse("parts of type text", "\"" + part.type + "\"");
    if (!text.empty()) text += '\n';
    text += part.text;
  }
  return text;
}

void ChatTemplate::fail(std::string_view message) const {
  const bool chosen = origin_ == Origin::kOption;
  throw Error({.subject = chosen ? "chat_template" : "chat template", .found = in_one_line(message)});
}

#ifdef LACAKE_HAVE_JINJA

// With the engine of llama.cpp's sources (cmake/jinja.cmake).
namespace {

// As Python has them: a string, or a list of parts.
jinja::value list(std::span<const Message> messages, bool as_parts) {
  const auto text = [](const std::string& s) { return jinja::mk_val<jinja::value_string>(s); };
  auto all = jinja::mk_val<jinja::value_array>();
  for (const Message& message : messages) {
    auto one = jinja::mk_val<jinja::value_object>();
    one->insert("role", text(message.role));
    if (as_parts) {
      auto part = jinja::mk_val<jinja::value_object>();
      part->insert("type", text("text"));
      part->insert("text", text(text_of(message)));
      auto parts = jinja::mk_val<jinja::value_array>();
      parts->push_back(part);
      one->insert("content", parts);
    } else {
      one->insert("content", text(text_of(message)));
    }
    all->push_back(one);
  }
  return all;
}

void set_arguments(jinja::context& context, const ChatOptions& options) {
  common_json values = common_json::object();
  for (const auto& [name, text] : options.template_arguments) {
    try {
      values[name] = common_json::parse(text);
    } catch (const std::exception&) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "template_arguments",
                   .expected = "JSON as the value of " + name,
                   .found = "\"" + text + "\""});
    }
  }
  jinja::global_from_json(context, values, false);
}

std::size_t bytes_of(std::span<const Message> messages) {
  std::size_t bytes = 0;
  for (const Message& message : messages) bytes += text_of(message).size();
  return bytes;
}

}  // namespace

bool ChatTemplate::has_jinja() { return true; }

PromptText ChatTemplate::render(std::span<const Message> messages, const ChatOptions& options) const {
  assert(!empty());
  if (by_name_) return render_listed(source_, messages, options.add_generation_prompt);
  if (is_go_template(source_)) fail(kGoTemplate);
  const JinjaLimits limits(messages.size(), bytes_of(messages) + source_.size());
  try {
    jinja::program program = parse_template(source_);
    const auto run = [&](bool as_parts) {
      jinja::context context(source_);
      if (options.now != 0) context.current_time = options.now;
      context.set_val("messages", list(messages, as_parts));
      context.set_val("add_generation_prompt", jinja::mk_val<jinja::value_bool>(options.add_generation_prompt));
      context.set_val("bos_token", jinja::mk_val<jinja::value_string>(bos_));
      context.set_val("eos_token", jinja::mk_val<jinja::value_string>(eos_));
      for (const char* name : {"tools", "documents"}) context.set_val(name, jinja::mk_val<jinja::value_none>());
      // As llama.cpp has it, and as the path that knows tools does.
      context.set_val("enable_thinking", jinja::mk_val<jinja::value_bool>(options.thinking.value_or(true)));
      set_arguments(context, options);
      set_template_globals(context);
      return with_marks(jinja::runtime(context).execute(program));
    };
    try {
      return run(false);
    } catch (const Error&) {
      throw;
    } catch (const std::exception&) {
      // Some templates take content as a list of parts and nothing else.
      const jinja::caps can = jinja::caps_get(program);
      if (can.supports_string_content || !can.supports_typed_content) throw;
      return run(true);
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail(e.what());
  }
}

#else

bool ChatTemplate::has_jinja() { return false; }

PromptText ChatTemplate::render(std::span<const Message> messages, const ChatOptions& options) const {
  assert(!empty());
  if (is_go_template(source_)) fail(kGoTemplate);
  const auto refuse = [](const char* setting) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = setting,
                 .found = "cannot be used: this build was made without llama.cpp's sources and runs no templates"});
  };
  if (options.thinking) refuse("thinking");
  if (!options.template_arguments.empty()) refuse("template_arguments");
  return render_listed(source_, messages, options.add_generation_prompt);
}

#endif

ChatTemplate::ChatTemplate(std::string source, std::string bos, std::string eos, Origin origin)
    : source_(std::move(source)), bos_(std::move(bos)), eos_(std::move(eos)), origin_(origin) {
  if (origin_ == Origin::kModel || source_.empty()) return;
  by_name_ = is_listed_template(source_);
  if (by_name_) return;
  const auto refuse = [](std::string found, std::string remedy) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "chat_template",
                 .expected = "a Jinja template or the name of one that libllama knows",
                 .found = std::move(found),
                 .remedy = std::move(remedy)});
  };
  if (source_.find("{{") == source_.npos && source_.find("{%") == source_.npos) {
    constexpr std::size_t kShown = 40;
    const std::string like = nearest(source_.substr(0, kShown), chat_template_names());
    refuse("\"" + source_.substr(0, kShown) + "\"", like.empty() ? "" : "did you mean " + like + "?");
  }
  if (is_go_template(source_)) refuse("a Go template, as Ollama has them", "");
#ifdef LACAKE_HAVE_JINJA
  try {
    parse_template(source_);
  } catch (const std::exception& e) {
    refuse("one that cannot be read: " + in_one_line(e.what()), "");
  }
#endif
}

ChatTemplate ChatTemplate::of(const Vocabulary& vocabulary, const std::string& chosen) {
  const auto spelled = [&](std::optional<std::int32_t> token) {
    return token ? vocabulary.piece(*token, ControlTokens::kShown) : std::string();
  };
  const std::string bos = spelled(vocabulary.bos()), eos = spelled(vocabulary.eos());
  if (!chosen.empty()) return {chosen, bos, eos, Origin::kOption};
  return {vocabulary.chat_template(), bos, eos};
}

std::string ChatTemplate::notice() const {
  if (empty()) return "the model has no chat template: the text goes to it as it is";
  if (by_name_ || has_jinja()) return "";
  return "built without a Jinja engine: the chat template is recognised, not run; a default system message may be "
         "missing";
}

}  // namespace lacake
