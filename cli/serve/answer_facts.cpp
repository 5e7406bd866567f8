#include "serve/answer_facts.h"

#include <utility>
#include <vector>

namespace lacake::cli {
namespace {

using nlohmann::json;

}  // namespace

json cache_facts(const ServedCache& cache) {
  std::size_t n_entries = 0;
  for (const std::size_t n : cache.use.entries_per_layer) n_entries += n;
  const std::uint64_t full = cache.use.full_bytes, held = cache.use.held_bytes;
  json facts = {{"policy", cache.policy},       {"budget_bytes", cache.use.budget_bytes},
                {"held_bytes", held},           {"dropped_bytes", full > held ? full - held : 0},
                {"entries_held", n_entries},    {"prompt_tokens", cache.n_prompt},
                {"cached_tokens", cache.n_held}};
  if (!cache.id.empty()) facts["id"] = cache.id;
  if (cache.stored) facts["stored"] = *cache.stored;
  return facts;
}

json usage_of(const Served& served) {
  std::size_t n_written = 0;
  for (const Answer& answer : served.answers) n_written += answer.tokens.size();
  return {{"prompt_tokens", served.cache.n_prompt},
          {"completion_tokens", n_written},
          {"total_tokens", served.cache.n_prompt + n_written},
          {"prompt_tokens_details", {{"cached_tokens", served.cache.n_held}}}};
}

std::string finish_reason(const Answer& answer) {
  if (answer.finish == Finish::kLength) return "length";
  return answer.parsed.tool_calls.empty() ? "stop" : "tool_calls";
}

json session_json(const SchedulerStatus::Conversation& c) {
  return {{"id", c.id},
          {"object", "session"},
          {"state", c.running ? "running" : "idle"},
          {"running", c.running},
          {"tokens", c.n_tokens},
          {"turns", c.n_turns},
          {"held_bytes", c.held_bytes},
          {"budget_bytes", c.budget_bytes}};
}

json generation_settings(const Model& model, const GenerationOptions& generation) {
  const SamplerOptions& s = generation.sampling;
  json bias = json::array();  // of a forbidden token null, which is how JSON has no minus infinity
  for (const LogitBias& one : s.logit_bias) {
    std::vector<Token> tokens = {one.token};
    if (!one.text.empty()) tokens = model.tokenize(one.text, false, false);
    for (const Token token : tokens) bias.push_back({{"token", token}, {"bias", one.bias}});
  }
  for (Token token = 0; s.ignore_eos && token < model.facts().n_vocab; ++token) {
    if (model.is_end(token)) bias.push_back({{"token", token}, {"bias", nullptr}});
  }
  return {{"seed", s.seed},
          {"temperature", s.temp},
          {"dynatemp_range", s.dynatemp_range},
          {"dynatemp_exponent", s.dynatemp_exponent},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"top_n_sigma", s.top_n_sigma},
          {"xtc_probability", s.xtc_probability},
          {"xtc_threshold", s.xtc_threshold},
          {"typical_p", s.typical_p},
          {"min_keep", s.min_keep},
          {"repeat_last_n", s.repeat_last_n},
          {"repeat_penalty", s.repeat_penalty},
          {"presence_penalty", s.presence_penalty},
          {"frequency_penalty", s.frequency_penalty},
          {"dry_multiplier", s.dry_multiplier},
          {"dry_base", s.dry_base},
          {"dry_allowed_length", s.dry_allowed_length},
          {"dry_penalty_last_n", s.dry_penalty_last_n},
          {"dry_sequence_breakers", s.dry_sequence_breakers},
          {"mirostat", s.mirostat},
          {"mirostat_tau", s.mirostat_tau},
          {"mirostat_eta", s.mirostat_eta},
          {"ignore_eos", s.ignore_eos},
          {"logit_bias", std::move(bias)},
          {"grammar", s.grammar},
          {"samplers", s.samplers},
          {"stop", generation.stop},
          {"n_probs", generation.log_probabilities.value_or(0)},
          {"n_predict", generation.limits.answer ? json(*generation.limits.answer) : json(-1)}};
}

}  // namespace lacake::cli
