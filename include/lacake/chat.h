#pragma once

#include <cstddef>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/token.h"

namespace lacake {

struct SamplerOptions;

// A conversation as a program holds it, what a model's chat template makes of it (Model::chat), and what the model's
// answer says: content, reasoning and calls of tools apart. Model::chat and AnswerFormat::parse may be called from any
// number of threads at once; everything else here is plain data.

// One part of a message whose content is a list. Only text has a meaning so far; other types are refused.
struct ContentPart {
  std::string type = "text";
  std::string text = {};
};

// A model's call of a tool.
struct ToolCall {
  std::string name = {};
  std::string arguments = {};  // a JSON object as text; while an answer streams, the beginning of one
  std::string id = {};         // "" where the template has none
};

struct Message {
  std::string role;                       // "system", "user", "assistant", "tool", or what else the template knows
  std::string content;                    // text; "" where `parts` are given
  std::vector<ContentPart> parts = {};    // instead of `content`
  std::string reasoning = {};             // what an assistant thought before this answer
  std::vector<ToolCall> tool_calls = {};  // of an assistant
  std::string name = {};                  // of the tool that a "tool" message comes from
  std::string tool_call_id = {};          // the call that a "tool" message answers
};

// A function that the model may call.
struct Tool {
  std::string name = {};
  std::string description = {};
  std::string parameters = "{}";  // JSON schema of the arguments, as text
  bool operator==(const Tool&) const = default;
};

enum class ToolChoice {
  kAuto,      // the model decides
  kRequired,  // at least one call: the answer's grammar demands it
  kNone,      // tools are shown to the model, but not called
};

// How a conversation becomes a prompt.
struct ChatOptions {
  bool add_generation_prompt = true;  // ends with the opening of the assistant's answer
  // The last message, an assistant's, goes on where it ends, instead of a new answer.
  bool continue_last_message = false;

  std::vector<Tool> tools = {};
  ToolChoice tool_choice = ToolChoice::kAuto;
  bool parallel_tool_calls = false;  // several calls in one answer
  std::string json_schema = {};      // what the answer's content must follow; "": nothing

  // Whether the model thinks before it answers, where its template can say so; not set: the template's
  // `enable_thinking` is true, as in llama.cpp.
  std::optional<bool> thinking = {};
  bool reasoning_apart = true;  // parse() takes reasoning out of the content
  // More variables of the template by name; the values are JSON texts (`"high"`, `true`).
  std::map<std::string, std::string> template_arguments = {};
  std::time_t now = 0;  // for templates that write today's date; 0: the clock
  bool operator==(const ChatOptions&) const = default;
};

// Text of which parts are letters only: what came from a user, a file or a tool. In them `<|im_end|>` is ten
// characters, elsewhere it is the token. Model::tokenize turns it into tokens.
struct PromptText {
  struct Range {
    std::size_t begin = 0;  // offset of the first byte
    std::size_t end = 0;    // offset behind the last one
    bool operator==(const Range&) const = default;
  };

  std::string text = {};
  std::vector<Range> letters = {};  // ascending, not empty, not touching

  // All of it letters: a text that a user hands over without a chat template.
  static PromptText as_letters(std::string text);

  // The first `offset` bytes, and what is behind them. REQUIRES: offset <= text.size().
  PromptText first(std::size_t offset) const;
  PromptText from(std::size_t offset) const;
};

// What an answer said.
struct ParsedAnswer {
  std::string content;
  std::string reasoning;
  std::vector<ToolCall> tool_calls;
};

// How an answer to a prompt is written, which depends on the model's template and on what was asked for: what a sampler
// must hold to, where it ends, and how to read it. Copies share one immutable state.
class AnswerFormat {
 public:
  // An answer that is content and nothing else.
  AnswerFormat();

  // Adds what the answer must follow to the options of the sampler that writes it: a grammar, from the start or from
  // where a call of a tool begins, and where reasoning begins and ends.
  // Throws Error(kUsage) naming `grammar` or `json_schema` where both the format and the options have a grammar.
  void apply_to(SamplerOptions& options) const;

  // Strings that end an answer besides the model's end tokens.
  const std::vector<std::string>& stops() const;

  // Control tokens that are part of the answer's text (the mark of a tool call, say): Model::piece with their text
  // shown. Ascending.
  const std::vector<Token>& shown_tokens() const;

  bool has_reasoning() const;   // parse() may find reasoning
  bool has_tool_calls() const;  // parse() may find calls

  // Reads an answer: the text of all its tokens, from the first. Where more follows (`partial`), everything returned
  // only grows with the text. Costs time in proportion to the text each time.
  // A whole answer that does not follow the format (no end of a call, arguments that are no JSON) is content as it is.
  ParsedAnswer parse(std::string_view text, bool partial) const;

  struct State;  // for the library's own use
  explicit AnswerFormat(std::shared_ptr<const State> state);

 private:
  std::shared_ptr<const State> state_;
};

// A conversation for a model: what to feed and how to read what it answers.
struct ChatPrompt {
  PromptText text;
  std::vector<Token> tokens;  // of `text`, with what the model wants in front of every text
  AnswerFormat format;
};

}  // namespace lacake
