#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <vector>

#include "lacake/error.h"
#include "text/vocabulary.h"
#include "tools/paths.h"

namespace lacake {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::vector<Message> kHello = {{"user", "Hello!"}};

// tests/text/make_chat_fixtures.py: what Python's jinja2 makes of the same templates and conversations.
const Json& fixtures() {
  static const Json json = Json::parse(std::ifstream(fs::path(test_source_dir()) / "text" / "chat_fixtures.json"));
  return json;
}

std::vector<Message> conversation(const Json& name) {
  std::vector<Message> messages;
  for (const Json& message : fixtures().at("conversations").at(name.get<std::string>())) {
    messages.push_back({message.at("role"), message.at("content")});
  }
  return messages;
}

std::string fnv1a(const std::string& text) {
  std::uint64_t state = 0xCBF29CE484222325;
  for (const char c : text) state = (state ^ (unsigned char)c) * 0x100000001B3;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", (unsigned long long)state);
  return hex;
}

struct Outcome {
  std::string text;
  std::string error;
};

Outcome run(const ChatTemplate& chat, const Json& test_case) {
  ChatOptions options;
  options.add_generation_prompt = test_case.at("add_generation_prompt");
  options.now = fixtures().at("now").get<std::time_t>();
  try {
    return {chat.render(conversation(test_case.at("conversation")), options).text, ""};
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kInput);
    return {"", std::string(e.what()).substr(std::string("chat template: ").size())};
  }
}

// Returns how many cases were compared.
std::size_t expect_same_as_python(const Json& entry, const std::string& source) {
  const ChatTemplate chat(source, entry.at("bos"), entry.at("eos"));
  for (const Json& test_case : entry.at("cases")) {
    SCOPED_TRACE(entry.at("name").get<std::string>() + ", " + test_case.at("conversation").get<std::string>());
    const Outcome outcome = run(chat, test_case);
    if (entry.contains("source")) {
      EXPECT_EQ(outcome.text, test_case.value("text", ""));
      EXPECT_EQ(outcome.error, test_case.value("error", ""));
    } else if (test_case.contains("error")) {
      EXPECT_EQ(fnv1a(outcome.error), test_case.at("error")) << outcome.error;
    } else {
      EXPECT_EQ(fnv1a(outcome.text), test_case.at("fnv1a")) << outcome.text << outcome.error;
      EXPECT_EQ(outcome.text.size(), test_case.at("bytes"));
    }
  }
  return entry.at("cases").size();
}

TEST(ChatTemplate, RendersAsPythonDoes) {
  if (!ChatTemplate::has_jinja()) GTEST_SKIP() << "built without a Jinja engine";
  std::size_t compared = 0;
  for (const Json& entry : fixtures().at("templates")) {
    if (entry.contains("source")) compared += expect_same_as_python(entry, entry.at("source"));
  }
  EXPECT_GE(compared, 100U);
}

TEST(ChatTemplate, RendersTemplatesThatMayNotBePassedOnAsPythonDoes) {
#ifdef LACAKE_LLAMA_SOURCE_DIR
  const fs::path folder = fs::path(LACAKE_LLAMA_SOURCE_DIR) / "models" / "templates";
  if (!ChatTemplate::has_jinja() || !fs::exists(folder)) GTEST_SKIP() << "no Jinja engine or no templates: " << folder;
  std::size_t compared = 0;
  for (const Json& entry : fixtures().at("templates")) {
    if (!entry.contains("file")) continue;
    std::ifstream file(folder / entry.at("file").get<std::string>(), std::ios::binary);
    ASSERT_TRUE(file) << entry.at("file");
    compared += expect_same_as_python(entry, {std::istreambuf_iterator<char>(file), {}});
  }
  EXPECT_GE(compared, 50U);
#else
  GTEST_SKIP() << "no llama.cpp sources";
#endif
}

TEST(ChatTemplate, OfTheModelHasItsDefaultSystemMessage) {
  if (!ChatTemplate::has_jinja()) GTEST_SKIP() << "built without a Jinja engine";
  const ChatTemplate chat = ChatTemplate::of(Vocabulary(LACAKE_TEST_MODEL));
  EXPECT_EQ(chat.notice(), "");
  EXPECT_EQ(chat.render(kHello).text,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, WithoutAnEngineSaysSo) {
  if (ChatTemplate::has_jinja()) GTEST_SKIP() << "built with a Jinja engine";
  const ChatTemplate chat = ChatTemplate::of(Vocabulary(LACAKE_TEST_MODEL));
  EXPECT_NE(chat.notice().find("without a Jinja engine"), std::string::npos);
  EXPECT_EQ(chat.render(kHello).text, "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THROW(ChatTemplate("{{ messages[0].content }}", "", "").render(kHello), Error);
}

TEST(ChatTemplate, WithoutASourceIsEmpty) {
  EXPECT_TRUE(ChatTemplate().empty());
  const ChatTemplate chat("", "<s>", "</s>");
  EXPECT_TRUE(chat.empty());
  EXPECT_NE(chat.notice().find("no chat template"), std::string::npos);
}

std::string refusal(const std::string& source) {
  try {
    return "rendered: " + ChatTemplate(source, "", "").render(kHello).text;
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kInput);
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
}

TEST(ChatTemplate, RefusesInOneLine) {
  if (!ChatTemplate::has_jinja()) GTEST_SKIP() << "built without a Jinja engine";
  EXPECT_EQ(
      refusal("{% for m in messages %}{% if true %}{{ raise_exception('No.\nNot ' ~ m.role) }}{% endif %}{% endfor %}"),
      "chat template: No. Not user");
  for (const char* source : {"{% for m in messages %}", "{{ messages[0", "{% frobnicate %}", "{{ 'open",
                             "{{ messages | nonsense }}", "{{ 1 + messages }}"}) {
    const std::string message = refusal(source);
    EXPECT_TRUE(message.starts_with("chat template: ")) << source << " -> " << message;
    EXPECT_GT(message.size(), 20U) << source << " -> " << message;
  }
}

// The list in README.md. A line that fails here after a newer llama.cpp is good news: take it off both lists.
TEST(ChatTemplate, DiffersFromPythonOnlyWhereTheReadmeSays) {
  if (!ChatTemplate::has_jinja()) GTEST_SKIP() << "built without a Jinja engine";
  const auto rendered = [](const std::string& source) { return ChatTemplate(source, "", "").render(kHello).text; };
  EXPECT_EQ(rendered("{{ 'é' | length }}"), "2");            // Python: 1
  EXPECT_EQ(rendered("{{ 'éa'[2:] }}"), "a");                // Python: nothing
  EXPECT_EQ(rendered("{{ 'é' | upper }}"), "é");             // Python: É
  EXPECT_EQ(rendered("{{ 'a\u00a0' | trim }}"), "a\u00a0");  // Python: a
  EXPECT_EQ(rendered("{{ none }}"), "");                     // Python: None
  EXPECT_EQ(rendered("{{ ['a', 'b'] }}"), "ab");             // Python: ['a', 'b']
  EXPECT_EQ(rendered("{{ nothing.at_all }}"), "");           // Python: an error
}

}  // namespace
}  // namespace lacake
