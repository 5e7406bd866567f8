#include "text/grammar.h"

#include <cctype>
#include <exception>
#include <regex>
#include <string_view>

#include "lacake/error.h"
#include "text/gbnf.h"
#include "text/llama_log.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

[[noreturn]] void fail(const char* option, std::string expected, std::string found) {
  throw Error(
      {.kind = Error::Kind::kUsage, .subject = option, .expected = std::move(expected), .found = std::move(found)});
}

std::string escaped(const std::string& word) {
  constexpr std::string_view kSpecial = ".^$|()*+?[]{}\\";
  std::string pattern;
  for (const char c : word) {
    if (kSpecial.find(c) != kSpecial.npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// A trigger as libllama takes it: a regular expression. A whole pattern is held to both ends of the answer.
std::string pattern_of(const GrammarTrigger& trigger) {
  if (trigger.kind == GrammarTrigger::Kind::kWord) return escaped(trigger.value);
  std::string pattern = trigger.value;
  if (trigger.kind == GrammarTrigger::Kind::kWholePattern) {
    if (!pattern.starts_with('^')) pattern.insert(0, "^");
    if (pattern.size() == 1 || !pattern.ends_with('$')) pattern += '$';
  }
  try {
    const std::regex checked(pattern);
  } catch (const std::regex_error& e) {
    fail("grammar_triggers", "regular expressions", pattern + " (" + e.what() + ")");
  }
  return pattern;
}

llama_sampler* lazy(const Vocabulary& vocabulary, const std::string& grammar, const SamplerOptions& options) {
  if (options.grammar_triggers.empty()) fail("grammar_triggers", "some for a lazy grammar", "none");
  std::vector<std::string> patterns;
  std::vector<llama_token> tokens;
  for (const GrammarTrigger& trigger : options.grammar_triggers) {
    if (trigger.kind == GrammarTrigger::Kind::kToken) {
      tokens.push_back(trigger.token);
    } else {
      patterns.push_back(pattern_of(trigger));
    }
  }
  std::vector<const char*> texts;
  for (const std::string& pattern : patterns) texts.push_back(pattern.c_str());
  return llama_sampler_init_grammar_lazy_patterns(vocabulary.handle(), grammar.c_str(), "root", texts.data(),
                                                  texts.size(), tokens.data(), tokens.size());
}

}  // namespace

std::vector<Token> tokens_of_template(const Vocabulary& vocabulary, const std::string& text) {
  std::vector<Token> tokens = vocabulary.tokenize(text, {.parse = true});
  if (tokens.empty() || std::isspace((unsigned char)text[0])) return tokens;
  const std::string first = vocabulary.piece(tokens[0], ControlTokens::kShown);
  if (!first.empty() && std::isspace((unsigned char)first[0])) tokens.erase(tokens.begin());
  return tokens;
}

OwnedSampler make_grammar(const Vocabulary& vocabulary, const SamplerOptions& options) {
  if (!options.grammar.empty() && !options.json_schema.empty()) {
    fail("grammar", "either a grammar or a `json_schema`", "both");
  }
  if (options.grammar.empty() && options.json_schema.empty()) return nullptr;
  const std::string grammar = options.grammar.empty() ? json_schema_grammar(options.json_schema) : options.grammar;
  check_gbnf(grammar, vocabulary);

  const LlamaErrors errors;
  OwnedSampler made(options.grammar_lazy ? lazy(vocabulary, grammar, options)
                                         : llama_sampler_init_grammar(vocabulary.handle(), grammar.c_str(), "root"));
  if (!made) fail("grammar", "GBNF that libllama reads", errors.first());
  if (options.grammar_lazy) return made;
  try {
    for (const Token token : tokens_of_template(vocabulary, options.grammar_begun)) {
      llama_sampler_accept(made.get(), token);
    }
  } catch (const std::exception&) {
    fail("grammar", "one that allows what the prompt holds of the answer", "\"" + options.grammar_begun + "\"");
  }
  return made;
}

}  // namespace lacake
