#include "text/sampler_chain.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lacake/error.h"
#include "text/sampler_names.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

template <typename Value>
void require(bool holds, const char* option, std::string_view expected, const Value& found) {
  if (holds) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = option,
               .expected = std::string(expected),
               .found = fmt::format("{}", found)});
}

// libllama of 2026 asks for the size of the vocabulary, earlier ones don't.
template <typename Make>
llama_sampler* make_penalties(Make make, const Vocabulary& vocabulary, const SamplerOptions& o) {
  if constexpr (std::is_invocable_v<Make, std::int32_t, std::int32_t, float, float, float>) {
    return make(vocabulary.n_tokens(), o.repeat_last_n, o.repeat_penalty, o.frequency_penalty, o.presence_penalty);
  } else {
    return make(o.repeat_last_n, o.repeat_penalty, o.frequency_penalty, o.presence_penalty);
  }
}

// Earlier ones ask for the length of the context too, which only limits dry_penalty_last_n.
template <typename Make>
llama_sampler* make_dry(Make make, const Vocabulary& vocabulary, const SamplerOptions& o) {
  std::vector<const char*> breakers;
  for (const std::string& breaker : o.dry_sequence_breakers) breakers.push_back(breaker.c_str());
  const auto with = [&](auto... length) {
    return make(vocabulary.handle(), length..., o.dry_multiplier, o.dry_base, o.dry_allowed_length,
                o.dry_penalty_last_n, breakers.data(), breakers.size());
  };
  if constexpr (std::is_invocable_v<Make, const llama_vocab*, float, float, std::int32_t, std::int32_t, const char**,
                                    std::size_t>) {
    return with();
  } else {
    return with(std::numeric_limits<std::int32_t>::max());
  }
}

// Tokens that the model's file says are never to be drawn; earlier libllamas don't know the key.
template <typename Vocab>
void add_suppressed(const Vocab* vocab, std::vector<llama_logit_bias>& biases) {
  if constexpr (requires(std::int32_t n) { llama_vocab_get_suppress_tokens(vocab, &n); }) {
    std::int32_t n = 0;
    const llama_token* tokens = llama_vocab_get_suppress_tokens(vocab, &n);
    for (std::int32_t i = 0; i < n; ++i) biases.push_back({tokens[i], kNever});
  }
}

std::vector<llama_logit_bias> biases_of(const Vocabulary& vocabulary, const SamplerOptions& options) {
  std::vector<llama_logit_bias> biases;
  for (const LogitBias& bias : options.logit_bias) {
    require(!std::isnan(bias.bias), "logit_bias", "a number", bias.bias);
    if (bias.text.empty()) {
      require(bias.token >= 0 && bias.token < vocabulary.n_tokens(), "logit_bias",
              fmt::format("a token from 0 to {}", vocabulary.n_tokens() - 1), bias.token);
      biases.push_back({bias.token, bias.bias});
    } else {
      for (const Token token : vocabulary.tokenize(bias.text)) biases.push_back({token, bias.bias});
    }
  }
  if (options.ignore_eos) {
    for (Token token = 0; token < vocabulary.n_tokens(); ++token) {
      if (vocabulary.is_end(token)) biases.push_back({token, kNever});
    }
  }
  add_suppressed(vocabulary.handle(), biases);
  return biases;
}

// Null for a name that is unknown.
llama_sampler* make_link(const std::string& name, const Vocabulary& vocabulary, const SamplerOptions& o) {
  const auto min_keep = (std::size_t)o.min_keep;
  if (name == "penalties") return make_penalties(&llama_sampler_init_penalties, vocabulary, o);
  if (name == "dry") return make_dry(&llama_sampler_init_dry, vocabulary, o);
  if (name == "top_n_sigma") return llama_sampler_init_top_n_sigma(o.top_n_sigma);
  if (name == "top_k") return llama_sampler_init_top_k(o.top_k);
  if (name == "typ_p") return llama_sampler_init_typical(o.typical_p, min_keep);
  if (name == "top_p") return llama_sampler_init_top_p(o.top_p, min_keep);
  if (name == "min_p") return llama_sampler_init_min_p(o.min_p, min_keep);
  if (name == "xtc") return llama_sampler_init_xtc(o.xtc_probability, o.xtc_threshold, min_keep, o.seed);
  if (name == "temperature") return llama_sampler_init_temp_ext(o.temp, o.dynatemp_range, o.dynatemp_exponent);
  if (name == "infill") return llama_sampler_init_infill(vocabulary.handle());
  return nullptr;
}

}  // namespace

void check_ranges(const SamplerOptions& o) {
  const auto share = [](float value, const char* option) {
    require(value >= 0 && value <= 1, option, "0 to 1", value);
  };
  const auto finite = [](float value, const char* option) {
    require(std::isfinite(value), option, "a finite number", value);
  };
  const auto count = [](std::int32_t value, const char* option) { require(value >= 0, option, "0 or more", value); };
  // Each answer takes four bytes for each token that is looked back at, whether it is there or not.
  const auto look_back = [](std::int32_t value, const char* option) {
    constexpr std::int32_t kMost = 1 << 20;
    require(value >= 0, option, "0 or more", value);
    require(value <= kMost, option, fmt::format("{} at most", kMost), value);
  };
  finite(o.temp, "temp");
  require(std::isfinite(o.dynatemp_range) && o.dynatemp_range >= 0, "dynatemp_range", "0 or more", o.dynatemp_range);
  finite(o.dynatemp_exponent, "dynatemp_exponent");
  share(o.top_p, "top_p");
  share(o.min_p, "min_p");
  share(o.typical_p, "typical_p");
  finite(o.top_n_sigma, "top_n_sigma");
  share(o.xtc_probability, "xtc_probability");
  share(o.xtc_threshold, "xtc_threshold");
  count(o.min_keep, "min_keep");
  require(std::isnormal(o.repeat_penalty) && o.repeat_penalty > 0 && std::isfinite(1 / o.repeat_penalty),
          "repeat_penalty", "a number above 0", o.repeat_penalty);
  look_back(o.repeat_last_n, "repeat_last_n");
  finite(o.presence_penalty, "presence_penalty");
  finite(o.frequency_penalty, "frequency_penalty");
  require(std::isfinite(o.dry_multiplier) && o.dry_multiplier >= 0, "dry_multiplier", "0 or more", o.dry_multiplier);
  require(std::isfinite(o.dry_base) && o.dry_base >= 1, "dry_base", "1 or more", o.dry_base);
  count(o.dry_allowed_length, "dry_allowed_length");
  look_back(o.dry_penalty_last_n, "dry_penalty_last_n");
  require(o.mirostat >= 0 && o.mirostat <= 2, "mirostat", "0, 1 or 2", o.mirostat);
  require(std::isfinite(o.mirostat_tau) && o.mirostat_tau >= 0, "mirostat_tau", "0 or more", o.mirostat_tau);
  require(std::isfinite(o.mirostat_eta) && o.mirostat_eta >= 0, "mirostat_eta", "0 or more", o.mirostat_eta);
  require(o.reasoning_budget >= -1, "reasoning_budget", "-1 or more", o.reasoning_budget);
}

OwnedSampler make_chain(const Vocabulary& vocabulary, const SamplerOptions& options) {
  llama_sampler_chain_params params = llama_sampler_chain_default_params();
  params.no_perf = true;
  OwnedSampler chain(llama_sampler_chain_init(params));
  const auto add = [&](llama_sampler* link) { llama_sampler_chain_add(chain.get(), link); };

  const std::vector<llama_logit_bias> biases = biases_of(vocabulary, options);
  if (!biases.empty()) {
    add(llama_sampler_init_logit_bias(vocabulary.n_tokens(), (std::int32_t)biases.size(), biases.data()));
  }
  const bool greedy = options.temp <= 0;
  const bool mirostat = options.mirostat != 0 && !greedy;
  for (const std::string& name : options.samplers) {
    OwnedSampler link(make_link(name, vocabulary, options));
    require(link != nullptr, "samplers", "names of samplers", name);
    if (mirostat || (greedy && !reorders(name))) continue;
    add(link.release());
  }
  if (greedy) {
    add(llama_sampler_init_greedy());
  } else if (options.mirostat == 1) {
    constexpr std::int32_t kEstimatedFrom = 100;  // tokens; the paper's and llama.cpp's m
    add(llama_sampler_init_temp(options.temp));
    add(llama_sampler_init_mirostat(vocabulary.n_tokens(), options.seed, options.mirostat_tau, options.mirostat_eta,
                                    kEstimatedFrom));
  } else if (options.mirostat == 2) {
    add(llama_sampler_init_temp(options.temp));
    add(llama_sampler_init_mirostat_v2(options.seed, options.mirostat_tau, options.mirostat_eta));
  } else {
    add(llama_sampler_init_dist(options.seed));
  }
  return chain;
}

}  // namespace lacake
