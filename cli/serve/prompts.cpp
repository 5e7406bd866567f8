#include "serve/prompts.h"

#include <fmt/format.h>

#include <algorithm>

#include "lacake/generation.h"

namespace lacake::cli {
namespace {

using nlohmann::json;

// Tokens, with texts among them or without.
ChatPrompt prompt_of_list(const Api& api, const json& list) {
  ChatPrompt prompt;
  for (const json& one : list) {
    if (!one.is_string()) {
      prompt.tokens.push_back(api.token_of(one, "prompt"));
      continue;
    }
    api.require_fits(one.get_ref<const std::string&>().size(), nullptr);
    const std::vector<Token> tokens = api.model().tokenize(one.get<std::string>(), true, prompt.tokens.empty());
    prompt.tokens.insert(prompt.tokens.end(), tokens.begin(), tokens.end());
  }
  if (prompt.tokens.empty()) refuse_field("prompt", "one token or more", list);
  return prompt;
}

// A text, a list of tokens and texts, or llama-server's object for a text with pictures, without pictures.
ChatPrompt prompt_of(const Api& api, const json& prompt) {
  const auto plain = [&](const std::string& text) {
    api.require_fits(text.size(), nullptr);
    return plain_prompt(api.model(), text, true);
  };
  if (prompt.is_string()) return plain(prompt.get<std::string>());
  if (prompt.is_array()) return prompt_of_list(api, prompt);
  if (!prompt.is_object()) refuse_field("prompt", "a text, a list of tokens, or a list of these", prompt);
  const Fields fields(prompt, "prompt.");
  if (const json* const data = fields.find("multimodal_data"); data && !data->empty()) {
    refuse_field("prompt.multimodal_data", "none: this model reads text only", *data);
  }
  const auto text = fields.text("prompt_string");
  if (!text) refuse_field("prompt.prompt_string", "a text", json());
  return plain(*text);
}

}  // namespace

std::vector<ChatPrompt> prompts_of(const Api& api, const json& prompt) {
  constexpr std::size_t kMost = 1024;
  const auto is_token = [](const json& one) { return one.is_number(); };
  const bool one = !prompt.is_array() || std::any_of(prompt.begin(), prompt.end(), is_token);
  if (one) return {prompt_of(api, prompt)};
  if (prompt.empty() || prompt.size() > kMost) refuse_field("prompt", fmt::format("1 to {} prompts", kMost), prompt);
  std::vector<ChatPrompt> all;
  for (const json& each : prompt) all.push_back(prompt_of(api, each));
  return all;
}

}  // namespace lacake::cli
