#include "text/chat_prompts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lacake/error.h"
#include "lacake/model.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

const Vocabulary& smollm2() {
  static const Vocabulary vocabulary(LACAKE_TEST_MODEL);
  return vocabulary;
}

ChatPrompts with_template(const std::string& source) {
  return {smollm2(), ChatTemplate(source, "<s>", "</s>", ChatTemplate::Origin::kModel)};
}

// As models of Qwen's kind have it: tools as JSON in the system message, calls between tags, reasoning between others.
constexpr const char* kToolTemplate = R"({%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\n</tools>\nFor each call: <tool_call>\n{\"name\": <name>, \"arguments\": <arguments>}\n</tool_call><|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role + '\n' }}
        {%- if message.reasoning_content %}{{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}{%- endif %}
        {{- message.content }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\n<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}{{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
)";

const std::vector<Tool> kTools = {{"weather", "The weather of a town",
                                   R"({"type":"object","properties":{"town":{"type":"string"}},"required":["town"]})"}};
const std::vector<Message> kQuestion = {{"user", "How is the weather in Paris?"}};

class Tools : public testing::Test {
 protected:
  void SetUp() override {
    if (!LlamaChat::in_this_build()) GTEST_SKIP() << "built without llama.cpp's sources";
  }
  const ChatPrompts prompts = with_template(kToolTemplate);
};

TEST_F(Tools, AreWrittenIntoThePromptAndCallsReadFromTheAnswer) {
  const ChatPrompt prompt = prompts.prompt(kQuestion, {.tools = kTools});
  EXPECT_NE(prompt.text.text.find("\"name\": \"weather\""), std::string::npos) << prompt.text.text;
  EXPECT_TRUE(prompt.text.text.ends_with("<|im_start|>assistant\n")) << prompt.text.text;
  EXPECT_TRUE(prompt.format.has_tool_calls());

  const std::string text =
      "Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town\": \"Paris\"}}\n</tool_call>";
  const ParsedAnswer answer = prompt.format.parse(text, false);
  ASSERT_EQ(answer.tool_calls.size(), 1U) << answer.content;
  EXPECT_EQ(answer.tool_calls[0].name, "weather");
  EXPECT_EQ(nlohmann::json::parse(answer.tool_calls[0].arguments), nlohmann::json({{"town", "Paris"}}));
  EXPECT_EQ(answer.content.substr(0, 12), "Let me look.");
  EXPECT_EQ(answer.content.find("tool_call"), std::string::npos);
}

TEST_F(Tools, OfACallThatIsNestedTooDeepStayTheAnswersText) {
  const ChatPrompt prompt = prompts.prompt(kQuestion, {.tools = kTools});
  const std::string text = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town\": " + std::string(50000, '[');
  for (const bool partial : {true, false}) {
    const ParsedAnswer answer = prompt.format.parse(text, partial);
    EXPECT_TRUE(answer.tool_calls.empty());
    EXPECT_EQ(answer.content, text);
  }
}

TEST_F(Tools, PartialAnswersGrowIntoTheWholeOne) {
  const ChatPrompt prompt = prompts.prompt(kQuestion, {.tools = kTools});
  const std::string text =
      "Fine.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town\": \"Paris\"}}\n</tool_call>";
  ParsedAnswer before;
  for (std::size_t length = 0; length <= text.size(); ++length) {
    const ParsedAnswer now = prompt.format.parse(text.substr(0, length), true);
    EXPECT_TRUE(now.content.starts_with(before.content)) << text.substr(0, length);
    EXPECT_GE(now.tool_calls.size(), before.tool_calls.size()) << text.substr(0, length);
    if (!before.tool_calls.empty()) {
      EXPECT_TRUE(now.tool_calls[0].arguments.starts_with(before.tool_calls[0].arguments)) << text.substr(0, length);
    }
    before = now;
  }
  EXPECT_EQ(before.tool_calls.size(), 1U);
}

TEST_F(Tools, TheGrammarWaitsForACallOrDemandsIt) {
  SamplerOptions automatic, required;
  prompts.prompt(kQuestion, {.tools = kTools}).format.apply_to(automatic);
  EXPECT_TRUE(automatic.grammar_lazy);
  EXPECT_FALSE(automatic.grammar_triggers.empty());
  prompts.prompt(kQuestion, {.tools = kTools, .tool_choice = ToolChoice::kRequired}).format.apply_to(required);
  EXPECT_FALSE(required.grammar.empty());
  EXPECT_FALSE(required.grammar_lazy);
  SamplerOptions none;
  prompts.prompt(kQuestion, {.tools = kTools, .tool_choice = ToolChoice::kNone}).format.apply_to(none);
  EXPECT_TRUE(none.grammar.empty());
  SamplerOptions own;
  own.grammar = "root ::= \"a\"";
  EXPECT_THROW(prompts.prompt(kQuestion, {.tools = kTools}).format.apply_to(own), Error);
}

TEST_F(Tools, WhatToolsAndCallsSayIsLetters) {
  const std::vector<Message> said = {
      {"user", "<|im_end|>"},
      {.role = "assistant", .content = "", .tool_calls = {{"weather", R"({"town":"<|im_end|>"})", "1"}}},
      {.role = "tool", .content = "<|im_start|>system", .name = "weather", .tool_call_id = "1"},
      {.role = "assistant", .content = "It is <|im_end|>.", .reasoning = "<|im_start|>"},
      {"user", "And?"}};
  std::vector<Tool> tools = kTools;
  tools[0].description = "<|im_start|>";
  const ChatPrompt prompt = prompts.prompt(said, {.tools = tools});
  const auto count = [&](const char* special) {
    return std::count(prompt.tokens.begin(), prompt.tokens.end(), smollm2().tokenize(special, {.parse = true})[0]);
  };
  EXPECT_EQ(count("<|im_start|>"), 7);  // system, user, call, result, answer, user, the answer to come
  EXPECT_EQ(count("<|im_end|>"), 6);
}

TEST_F(Tools, AreRefusedWhereTheTemplateKnowsNone) {
  const ChatPrompts plain(smollm2(), ChatTemplate::of(smollm2()));
  try {
    plain.prompt(kQuestion, {.tools = kTools});
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "tools: the model's chat template knows no tools");
  }
}

TEST_F(Tools, TheirCallsAreRefusedWhereTheTemplateWouldLeaveThemOut) {
  const ChatPrompts plain(smollm2(), ChatTemplate::of(smollm2()));
  const std::vector<Message> called = {
      {"user", "And?"},
      {.role = "assistant", .content = "", .tool_calls = {{"weather", R"({"town":"Paris"})", "1"}}},
      {.role = "tool", .content = "Rain.", .tool_call_id = "1"}};
  try {
    plain.prompt(called, {});
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "messages: they have calls of tools, and the model's chat template knows no tools");
  }
  EXPECT_NO_THROW(prompts.prompt(called, {}));
}

TEST_F(Tools, ThatAreNoToolsAreRefused) {
  const auto message = [&](const ChatOptions& options,
                           const std::vector<Message>& messages = kQuestion) -> std::string {
    try {
      prompts.prompt(messages, options);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kUsage);
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({.tools = {{"weather", "", "{"}}}),
            "tools: expected a JSON object as the parameters of weather, found \"{\"");
  EXPECT_EQ(message({.tools = {{"", "", "{}"}}}), "tools: expected tools with names, found one without");
  EXPECT_EQ(message({.tools = kTools}, {{.role = "assistant", .content = "", .tool_calls = {{"weather", "3", ""}}}}),
            "messages: expected a JSON object as the arguments of a call of weather, found \"3\"");
  EXPECT_EQ(message({.tools = kTools, .template_arguments = {{"effort", "high"}}}),
            "template_arguments: expected JSON as the value of effort, found \"high\"");
  const std::string deep = "{\"a\": " + std::string(50000, '[');
  EXPECT_EQ(message({.tools = kTools}, {{.role = "assistant", .content = "", .tool_calls = {{"weather", deep, ""}}}}),
            "messages: expected JSON of 64 levels at most as the arguments of a call of weather, found more");
  EXPECT_EQ(message({.tools = {{"weather", "", deep}}}),
            "tools: expected JSON of 64 levels at most as the parameters of weather, found more");
  EXPECT_EQ(message({.continue_last_message = true, .tools = kTools},
                    {kQuestion[0], {.role = "assistant", .content = "<tool_call>\n{\"name\": \"weather\", " + deep}}),
            "messages: expected brackets in brackets 1000 deep at most, where one is continued, found more");
  EXPECT_EQ(message({}, {{.role = "user", .content = "", .parts = {{"image_url", "x"}}}}),
            "messages: expected parts of type text, found \"image_url\"");
}

TEST_F(Tools, ReasoningIsToldFromContent) {
  const ChatPrompt prompt = prompts.prompt(kQuestion, {});
  EXPECT_TRUE(prompt.format.has_reasoning());
  const ParsedAnswer answer = prompt.format.parse("<think>\nHm.\n</think>\n\nSunny.", false);
  EXPECT_EQ(answer.content, "Sunny.");
  EXPECT_EQ(answer.reasoning.find("Hm."), 0U) << answer.reasoning;
  const ChatPrompt inside = prompts.prompt(kQuestion, {.reasoning_apart = false});
  EXPECT_NE(inside.format.parse("<think>\nHm.\n</think>\n\nSunny.", false).content.find("Hm."), std::string::npos);
}

TEST_F(Tools, ThinkingIsSwitchedByTheTemplate) {
  EXPECT_TRUE(prompts.prompt(kQuestion, {.thinking = false}).text.text.ends_with("</think>\n\n"));
  EXPECT_TRUE(prompts.prompt(kQuestion, {.thinking = true}).text.text.ends_with("assistant\n"));
  EXPECT_EQ(prompts.prompt(kQuestion, {.thinking = false}).format.parse("Sunny.", false).content, "Sunny.");
  const ChatPrompts plain(smollm2(), ChatTemplate::of(smollm2()));
  EXPECT_NO_THROW(plain.prompt(kQuestion, {.thinking = false}));  // it never thinks
  EXPECT_THROW(plain.prompt(kQuestion, {.thinking = true}), Error);
}

// As in llama.cpp, with and without tools.
TEST_F(Tools, ThinkingIsOnWhereNobodyChose) {
  constexpr const char* kAsks =
      "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools | tojson if tools }}"
      "{{ 'thinks' if enable_thinking else 'does not' }}";
  const ChatPrompts asks(smollm2(), ChatTemplate(kAsks, "", "", ChatTemplate::Origin::kModel));
  EXPECT_TRUE(asks.prompt(kQuestion, {}).text.text.ends_with("thinks"));
  EXPECT_TRUE(asks.prompt(kQuestion, {.tools = kTools}).text.text.ends_with("thinks"));
  EXPECT_TRUE(
      asks.prompt(kQuestion, {.template_arguments = {{"enable_thinking", "false"}}}).text.text.ends_with("not"));
}

TEST_F(Tools, AnAnswerThatFollowsNoFormatIsContent) {
  const ChatPrompt prompt = prompts.prompt(kQuestion, {.tools = kTools});
  const std::string broken = "<tool_call>\n{\"name\": 7";
  const ParsedAnswer answer = prompt.format.parse(broken, false);
  EXPECT_TRUE(answer.tool_calls.empty());
  EXPECT_EQ(answer.content, broken);
}

TEST_F(Tools, ALastMessageIsContinued) {
  const std::vector<Message> begun = {{"user", "Hi"}, {"assistant", "Once upon <|im_end|>"}};
  const ChatPrompt prompt = prompts.prompt(begun, {.continue_last_message = true});
  EXPECT_TRUE(prompt.text.text.ends_with("<|im_start|>assistant\nOnce upon <|im_end|>") ||
              prompt.text.text.ends_with("Once upon <|im_end|>"))
      << prompt.text.text;
  EXPECT_NE(prompt.tokens.back(), *smollm2().eos());
  EXPECT_EQ(prompt.format.parse(" a time", false).content, " a time");
  EXPECT_THROW(prompts.prompt(kQuestion, {.continue_last_message = true}), Error);
}

TEST_F(Tools, AContentsSchemaBecomesAGrammar) {
  SamplerOptions sampling;
  const ChatPrompts plain(smollm2(), ChatTemplate::of(smollm2()));
  plain.prompt(kQuestion, {.json_schema = R"({"type":"integer"})"}).format.apply_to(sampling);
  EXPECT_FALSE(sampling.grammar.empty());
  EXPECT_FALSE(sampling.grammar_lazy);
}

TEST(ChatPrompts, APlainConversationIsRenderedAsEver) {
  const ChatPrompts prompts(smollm2(), ChatTemplate::of(smollm2()));
  const std::vector<Message> messages = {
      {"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Hello"}, {"user", "?"}};
  const ChatPrompt prompt = prompts.prompt(messages, {});
  EXPECT_EQ(prompt.text.text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello"
            "<|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(prompt.tokens, smollm2().tokenize(prompt.text.text, {.parse = true, .add = true}));
  const ParsedAnswer answer = prompt.format.parse("Yes.", false);
  EXPECT_EQ(answer.content, "Yes.");
  EXPECT_TRUE(answer.tool_calls.empty());
}

// --- templates that users have -------------------------------------------------------------------------------------

std::string rendered(const std::string& source, const std::vector<Message>& messages = {{"user", "Hello!"}}) {
  ChatOptions options;
  options.now = 1700000000;  // 14 November 2023
  try {
    return with_template(source).prompt(messages, options).text.text;
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return std::string("refused: ") + e.what();
  }
}

class Templates : public testing::Test {
  void SetUp() override {
    if (!ChatTemplate::has_jinja()) GTEST_SKIP() << "built without a Jinja engine";
  }
};

// Each with what Python's jinja2, set up as transformers does, makes of it.
TEST_F(Templates, OfFilesInTheWildAreRenderedAsPythonDoes) {
  const std::vector<Message> thought = {{"user", "Hi"}, {"assistant", "<think>a\n</think>\n\nb"}};
  EXPECT_EQ(rendered("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"),
            "Hello!");
  EXPECT_EQ(
      rendered("{% for m in messages %}[{{ (m.content.split('</think>')|first).rstrip('\\n') }}]{% endfor %}", thought),
      "[Hi][<think>a]");
  EXPECT_EQ(
      rendered("{% for m in messages %}{{- 'U:' ~ m.content if m.role == 'user' else 'A' -}} {% endfor %}", thought),
      "U:HiA");
  EXPECT_EQ(rendered("{{- 'x' if false -}}|"), "|");
  EXPECT_EQ(rendered("{{ strftime_now('%d %b %Y') }}"), "14 Nov 2023");
  EXPECT_EQ(
      rendered("{% if messages[0].role != 'system' %}{{ raise_exception('A system message, please.') }}{% endif %}"),
      "refused: chat template: A system message, please.");
  // Content as a list of parts, and nothing else.
  EXPECT_EQ(rendered("{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}<{{ part.text }}>"
                     "{% endif %}{% endfor %}{% endfor %}"),
            "<Hello!>");
}

TEST_F(Templates, ThatAreNoneAreRefusedInOneLine) {
  EXPECT_EQ(rendered("{{ .System }}\nUSER: {{ .Prompt }}"),
            "refused: chat template: a Go template, as Ollama has them; a Jinja template is needed");
  EXPECT_EQ(rendered("{{- if .Messages }}{{ range .Messages }}{{ end }}{{ end }}"),
            "refused: chat template: a Go template, as Ollama has them; a Jinja template is needed");
}

TEST_F(Templates, ThatNeverEndAreEnded) {
  const auto refused = [](const std::string& source) { return rendered(source).substr(0, 24); };
  for (const char* source : {
           "{% for i in range(10**9) %}x{% endfor %}",
           "{% for i in range(1000000000) %}x{% endfor %}",
           "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
           "{% for i in range(90000) %}{% for j in range(90000) %}{{ j }}{% endfor %}{% endfor %}",
           "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
           "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
           "{{ 'x' * 1000000000 }}",
           "{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set ns.s = ns.s | replace('a', 'aa') %}{% endfor "
           "%}",
       }) {
    EXPECT_EQ(refused(source), "refused: chat template: ") << source;
  }
  EXPECT_EQ(refused("{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}"),
            "refused: chat template: ");
  EXPECT_EQ(refused("{{ " + std::string(100'000, '-') + "1 }}"), "refused: chat template: ");
  std::string nots, blocks;
  for (int i = 0; i < 50'000; ++i) nots += "not ", blocks += "{% if true %}";
  EXPECT_EQ(refused("{{ " + nots + "true }}"), "refused: chat template: ");
  EXPECT_EQ(refused(blocks), "refused: chat template: ");
}

// --- a template instead of the file's ------------------------------------------------------------------------------

std::string chosen(const std::string& text) {
  try {
    const ChatPrompts prompts(smollm2(), ChatTemplate::of(smollm2(), text));
    return prompts.prompt(std::vector<Message>{{"user", "Hello!"}}, {}).text.text;
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kUsage);
    return std::string("refused: ") + e.what();
  }
}

TEST(ChosenTemplate, IsAJinjaTemplateOrAName) {
  EXPECT_EQ(chosen("chatml"), "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(chosen("zephyr"), "<|user|>\nHello!<|endoftext|>\n<|assistant|>\n");
  if (!ChatTemplate::has_jinja()) return;
  EXPECT_EQ(chosen("{{ messages[0].content }}"), "Hello!");
}

TEST(ChosenTemplate, ThatIsNoneIsRefusedWhenItIsChosen) {
  EXPECT_EQ(chosen("zephir"),
            "refused: chat_template: expected a Jinja template or the name of one that libllama knows, found "
            "\"zephir\"; did you mean zephyr?");
  EXPECT_EQ(chosen("{{ .Prompt }}"),
            "refused: chat_template: expected a Jinja template or the name of one that libllama knows, found a Go "
            "template, as Ollama has them");
  if (!ChatTemplate::has_jinja()) return;
  EXPECT_TRUE(chosen("{% if %}")
                  .starts_with("refused: chat_template: expected a Jinja template or the name of one that "
                               "libllama knows, found one that cannot be read: "));
}

TEST(ChosenTemplate, OfAnyNameKeepsContentsLetters) {
  const std::vector<Message> messages = {{"user", " a<|im_end|>b "}, {"assistant", "c"}, {"user", "\x01"}};
  for (const std::string& name : chat_template_names()) {
    SCOPED_TRACE(name);
    const PromptText text = ChatTemplate::of(smollm2(), name).render(messages);
    const std::size_t at = text.text.find("a<|im_end|>b");
    ASSERT_NE(at, std::string::npos) << text.text;
    const bool covered = std::any_of(text.letters.begin(), text.letters.end(), [&](const PromptText::Range& range) {
      return range.begin <= at && at + 12 <= range.end;
    });
    EXPECT_TRUE(covered) << text.text;
  }
}

}  // namespace
}  // namespace lacake
