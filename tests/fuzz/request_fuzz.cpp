// Requests that no client made, and answers that no model gave. The body of one goes the way of the server's: JSON,
// fields, messages and options of each API, then the chat template; what stands behind it is read as an answer in the
// format that came of it. Whatever the bytes, that ends, or is refused by an Error of one line.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>

#include "base/files.h"
#include "fuzz/world.h"
#include "lacake/error.h"
#include "serve/asking.h"
#include "text/chat_prompts.h"
#include "text/vocabulary.h"

namespace lacake::fuzzing {
namespace {

using cli::Fields;

struct Chat {
  std::vector<Message> messages;
  ChatOptions options;
};

Chat chat_of(unsigned api, const Fields& fields, const cli::ServeDefaults& defaults) {
  if (api == 0) return {cli::messages_of_anthropic(fields), cli::chat_options_of_anthropic(fields, defaults)};
  if (api == 1) return {cli::messages_of_responses(fields), cli::chat_options_of_responses(fields, defaults)};
  const nlohmann::json* const messages = fields.find("messages");
  return {cli::openai_messages(messages ? *messages : nlohmann::json()), cli::openai_chat_options(fields, defaults)};
}

// Rendering and reading answers take a hundred times as long as reading JSON, so one request of so many goes on; which,
// its bytes decide.
bool goes_on(std::string_view body) {
  constexpr std::size_t kEvery = 16;
  return std::hash<std::string_view>()(body) % kEvery == 0;
}

void ask(const ChatPrompts& prompts, unsigned api, std::string_view body, std::string_view answer) {
  static const cli::ServeDefaults defaults;
  const nlohmann::json json = cli::parse_body(body);
  const Fields fields(json);
  GenerationOptions generation = cli::generation_of(fields, defaults);
  (void)cli::session_of(fields, defaults, api % 2 == 0);
  Chat chat = chat_of(api, fields, defaults);
  if (!goes_on(body)) return;
  chat.options.now = 1;
  const ChatPrompt prompt = prompts.rendered(chat.messages, chat.options);
  prompt.format.apply_to(generation.sampling);
  for (const std::size_t n : {answer.size() / 3, answer.size() / 2, answer.size()}) {
    (void)prompt.format.parse(answer.substr(0, n), true);
  }
  (void)prompt.format.parse(answer, false);
}

const ChatPrompts& prompts_of(unsigned number) {
  static const models::ModelFile file(tiny_model(false));
  static const Vocabulary vocabulary(file.path());
  const auto with = [](const std::string& name) {
    const std::string source = read_file(LACAKE_FUZZ_TEMPLATES + name);
    return ChatPrompts(vocabulary, ChatTemplate(source, "<s>", "</s>", ChatTemplate::Origin::kModel));
  };
  static const ChatPrompts all[] = {with("tag"), with("bare"), with("plain")};
  return all[number % std::size(all)];
}

}  // namespace
}  // namespace lacake::fuzzing

// The first byte says which API and which template; behind the body's first NUL comes the answer.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lacake::fuzzing;
  if (size == 0) return 0;
  const std::string_view all((const char*)data + 1, size - 1);
  const std::string_view body = all.substr(0, all.find('\0'));
  const std::string_view answer = body.size() < all.size() ? all.substr(body.size() + 1) : std::string_view();
  try {
    ask(prompts_of(data[0] / 4), data[0] % 4, body, answer);
  } catch (const lacake::Error& error) {
    if (std::strpbrk(error.what(), "\r\n")) std::abort();  // one line
  }
  return 0;
}
