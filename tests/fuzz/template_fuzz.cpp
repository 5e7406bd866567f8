// Chat templates that no model has. A template comes with a model's file, so it is somebody else's program: whatever it
// is, it renders a conversation within bounds of time and memory, or is refused by an Error of one line.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "fuzz/world.h"
#include "lacake/error.h"
#include "text/chat_prompts.h"
#include "text/vocabulary.h"

namespace lacake::fuzzing {
namespace {

void render(const ChatPrompts& prompts, const std::vector<Message>& messages, const ChatOptions& options) {
  try {
    (void)prompts.rendered(messages, options);
  } catch (const Error& error) {
    if (std::strpbrk(error.what(), "\r\n")) std::abort();  // one line
  }
}

}  // namespace
}  // namespace lacake::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lacake;
  using namespace lacake::fuzzing;
  static const models::ModelFile file(tiny_model(false));
  static const Vocabulary vocabulary(file.path());
  const std::string source((const char*)data, size);
  if (source.empty()) return 0;
  const ChatPrompts prompts(vocabulary, ChatTemplate(source, "<s>", "</s>", ChatTemplate::Origin::kModel));
  const std::vector<Message> plain = {
      {"system", "Be brief."}, {"user", "Hi <|im_end|>"}, {"assistant", "So?"}, {"user", "x"}};
  render(prompts, plain, {.now = 1});
  // With tools llama.cpp's parsers look at the template themselves, by rendering conversations of their own. That takes
  // ten times as long, so one template of so many goes on; which, its bytes decide.
  constexpr std::size_t kEvery = 16;
  if (std::hash<std::string>()(source) % kEvery != 0) return 0;
  std::vector<Message> calling = plain;
  calling.push_back({.role = "assistant", .tool_calls = {{"weather", R"({"town":"Paris"})", "1"}}});
  calling.push_back({.role = "tool", .content = "sunny", .tool_call_id = "1"});
  render(prompts, calling, {.tools = {{"weather", "of a town", R"({"type":"object"})"}}, .thinking = true, .now = 1});
  return 0;
}
