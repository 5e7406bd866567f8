#include "library_options.h"

#include <type_traits>

#include "lacake/error.h"
#include "prompt.h"
#include "tools.h"

namespace lacake::cli {
namespace {

[[noreturn]] void refuse_both(const std::string& one, const std::string& other) {
  throw Error(
      {.kind = Error::Kind::kUsage, .subject = one, .expected = "either it or `" + other + "`", .found = "both"});
}

// A setting that can be given as text or as a file. "": neither. What was given and is empty is a mistake, as where a
// shell's variable is not set: a free answer would pass for one that follows it.
std::string text_or_file(const std::optional<std::string>& text, const std::optional<std::string>& file,
                         const std::string& setting) {
  if (text && file) refuse_both(setting, setting + "_file");
  if (file) return read_some_text(*file);
  if (text) require_some_text(*text, setting, Error::Kind::kUsage);
  return text.value_or("");
}

}  // namespace

Engine::Options engine_options(const Options& options) {
  return {.threads = (int)options.threads.value_or(0), .attention = options.attention};
}

Model::Options model_options(const Options& options) {
  Model::Options model{.product = options.product, .repack = !options.no_repack};
  model.rope = {.scaling = options.rope_scaling,
                .freq_base = options.rope_freq_base,
                .freq_scale = options.rope_freq_scale,
                .original_length = options.yarn_orig_ctx,
                .yarn_ext_factor = options.yarn_ext_factor,
                .yarn_attn_factor = options.yarn_attn_factor,
                .yarn_beta_slow = options.yarn_beta_slow,
                .yarn_beta_fast = options.yarn_beta_fast};
  if (options.rope_scale) model.rope.freq_scale = 1.0 / *options.rope_scale;
  for (const std::string& text : options.override_kv) model.overrides.push_back(MetadataOverride::parse(text));
  for (const std::string& path : options.lora) model.loras.push_back({path});
  for (const std::string& text : options.lora_scaled) {
    model.loras.push_back(Model::LoraFile::parse(text));
  }
  model.calibration = options.calibration.value_or("");
  model.context_length = options.ctx_size.value_or(0);
  model.chat_template = text_or_file(options.chat_template, options.chat_template_file, "chat_template");
  return model;
}

std::vector<std::string> sampler_names(const Options& options) {
  if (options.samplers && options.sampling_seq) refuse_both("samplers", "sampling_seq");
  if (options.samplers) return parse_samplers(*options.samplers);
  if (options.sampling_seq) return parse_sampler_letters(*options.sampling_seq);
  return SamplerOptions().samplers;
}

SamplerOptions sampler_options(const Options& options) {
  SamplerOptions sampling;
  const auto set = [](auto& to, const auto& from) {
    if (from) to = static_cast<std::remove_reference_t<decltype(to)>>(*from);
  };
  if (options.seed && *options.seed >= 0) sampling.seed = (std::uint32_t)(*options.seed);
  set(sampling.temp, options.temp);
  set(sampling.dynatemp_range, options.dynatemp_range);
  set(sampling.dynatemp_exponent, options.dynatemp_exponent);
  set(sampling.top_k, options.top_k);
  set(sampling.top_p, options.top_p);
  set(sampling.min_p, options.min_p);
  set(sampling.typical_p, options.typical_p);
  set(sampling.top_n_sigma, options.top_n_sigma);
  set(sampling.xtc_probability, options.xtc_probability);
  set(sampling.xtc_threshold, options.xtc_threshold);
  set(sampling.min_keep, options.min_keep);
  set(sampling.repeat_penalty, options.repeat_penalty);
  set(sampling.repeat_last_n, options.repeat_last_n);
  set(sampling.presence_penalty, options.presence_penalty);
  set(sampling.frequency_penalty, options.frequency_penalty);
  set(sampling.dry_multiplier, options.dry_multiplier);
  set(sampling.dry_base, options.dry_base);
  set(sampling.dry_allowed_length, options.dry_allowed_length);
  set(sampling.dry_penalty_last_n, options.dry_penalty_last_n);
  set(sampling.mirostat, options.mirostat);
  set(sampling.mirostat_eta, options.mirostat_eta);
  set(sampling.mirostat_tau, options.mirostat_tau);
  set(sampling.reasoning_budget, options.reasoning_budget);
  if (!options.dry_sequence_breakers.empty()) {
    sampling.dry_sequence_breakers = options.dry_sequence_breakers;
    std::erase(sampling.dry_sequence_breakers, "none");
  }
  for (const std::string& text : options.logit_bias) sampling.logit_bias.push_back(parse_logit_bias(text));
  sampling.samplers = sampler_names(options);
  sampling.grammar = text_or_file(options.grammar, options.grammar_file, "grammar");
  sampling.json_schema = text_or_file(options.json_schema, options.json_schema_file, "json_schema");
  if (!sampling.grammar.empty() && !sampling.json_schema.empty()) refuse_both("grammar", "json_schema");
  return sampling;
}

ChatOptions chat_options(const Options& options) {
  ChatOptions chat;
  if (options.reasoning && *options.reasoning != "auto") chat.thinking = *options.reasoning == "on";
  if (options.reasoning_format) chat.reasoning_apart = *options.reasoning_format != "none";
  if (options.tools_file) chat.tools = read_tools(*options.tools_file);
  if (!options.chat_template_kwargs) return chat;
  const auto values = nlohmann::json::parse(*options.chat_template_kwargs, nullptr, false);
  if (!values.is_object()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "chat_template_kwargs",
                 .expected = "a JSON object",
                 .found = "\"" + *options.chat_template_kwargs + "\""});
  }
  for (const auto& [name, value] : values.items()) chat.template_arguments[name] = value.dump();
  return chat;
}

}  // namespace lacake::cli
