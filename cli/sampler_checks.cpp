#include "sampler_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/error.h"
#include "lacake/sampler.h"
#include "output.h"

namespace lacake::cli {
namespace {

bool uses_dry(const Options& o) { return o.dry_multiplier.value_or(0) != 0; }
bool uses_mirostat(const Options& o) { return o.mirostat.value_or(0) != 0; }

// An option of a sampler, and the one that turns the sampler on.
struct SwitchRule {
  const char* json;
  bool (*is_on)(const Options&);
  const char* expected;
};

constexpr SwitchRule kSwitchRules[] = {
    {"xtc_threshold", [](const Options& o) { return o.xtc_probability.value_or(0) != 0; },
     "--xtc-probability above 0 beside it"},
    {"dynatemp_exponent", [](const Options& o) { return o.dynatemp_range.value_or(0) != 0; },
     "--dynatemp-range above 0 beside it"},
    {"repeat_last_n",
     [](const Options& o) {
       return o.repeat_penalty.value_or(1) != 1 || o.presence_penalty.value_or(0) != 0 ||
              o.frequency_penalty.value_or(0) != 0;
     },
     "--repeat-penalty, --presence-penalty or --frequency-penalty beside it"},
    {"dry_base", uses_dry, "--dry-multiplier above 0 beside it"},
    {"dry_allowed_length", uses_dry, "--dry-multiplier above 0 beside it"},
    {"dry_penalty_last_n", uses_dry, "--dry-multiplier above 0 beside it"},
    {"dry_sequence_breakers", uses_dry, "--dry-multiplier above 0 beside it"},
    {"mirostat_eta", uses_mirostat, "--mirostat 1 or 2 beside it"},
    {"mirostat_tau", uses_mirostat, "--mirostat 1 or 2 beside it"},
};

// An option and the samplers that look at it, by their names in `--samplers`.
struct ReaderRule {
  const char* json;
  std::vector<std::string> samplers;
};

const std::vector<ReaderRule>& reader_rules() {
  static const std::vector<ReaderRule> rules = {
      {"top_k", {"top_k"}},
      {"top_p", {"top_p"}},
      {"min_p", {"min_p"}},
      {"typical_p", {"typ_p"}},
      {"top_n_sigma", {"top_n_sigma"}},
      {"xtc_probability", {"xtc"}},
      {"xtc_threshold", {"xtc"}},
      {"min_keep", {"top_p", "min_p", "typ_p", "xtc"}},
      {"temp", {"temperature"}},
      {"dynatemp_range", {"temperature"}},
      {"dynatemp_exponent", {"temperature"}},
      {"repeat_penalty", {"penalties"}},
      {"repeat_last_n", {"penalties"}},
      {"presence_penalty", {"penalties"}},
      {"frequency_penalty", {"penalties"}},
      {"dry_multiplier", {"dry"}},
      {"dry_base", {"dry"}},
      {"dry_allowed_length", {"dry"}},
      {"dry_penalty_last_n", {"dry"}},
      {"dry_sequence_breakers", {"dry"}},
  };
  return rules;
}

std::vector<std::string> samplers_in_order(const Options& options) {
  if (options.samplers) return parse_samplers(*options.samplers);
  if (options.sampling_seq) return parse_sampler_letters(*options.sampling_seq);
  return SamplerOptions().samplers;
}

void say_no_effect(const std::vector<std::string>& flags, const char* why) {
  if (flags.empty()) return;
  warn(fmt::format("{} {} no effect {}", fmt::join(flags, ", "), flags.size() == 1 ? "has" : "have", why));
}

// The likeliest token is drawn whatever is cut off behind it: only what can change which one that is still counts.
bool can_reorder(const ReaderRule& rule) { return rule.samplers[0] == "penalties" || rule.samplers[0] == "dry"; }

void say_beside_temp_0(const Options& options, Command command) {
  std::vector<std::string> flags;
  for (const ReaderRule& rule : reader_rules()) {
    const bool counts = can_reorder(rule) || std::string_view(rule.json) == "temp";
    if (is_given(options, rule.json) && !counts) flags.push_back(flag_of(command, rule.json));
  }
  for (const char* json : {"mirostat", "mirostat_eta", "mirostat_tau"}) {
    if (is_given(options, json)) flags.push_back(flag_of(command, json));
  }
  say_no_effect(flags, "beside --temp 0, which takes the likeliest token");
}

void say_beside_mirostat(const Options& options, Command command) {
  std::vector<std::string> flags;
  for (const ReaderRule& rule : reader_rules()) {
    if (is_given(options, rule.json) && std::string_view(rule.json) != "temp") {
      flags.push_back(flag_of(command, rule.json));
    }
  }
  for (const char* json : {"samplers", "sampling_seq"}) {
    if (is_given(options, json)) flags.push_back(flag_of(command, json));
  }
  say_no_effect(flags, "beside --mirostat, which runs in place of all other samplers");
}

}  // namespace

void check_samplers(const Options& options, Command command) {
  for (const SwitchRule& rule : kSwitchRules) {
    if (!is_given(options, rule.json) || rule.is_on(options)) continue;
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = flag_of(command, rule.json),
                 .expected = rule.expected,
                 .found = "none"});
  }
  const bool greedy = options.temp.value_or(SamplerOptions().temp) <= 0;
  if (greedy) say_beside_temp_0(options, command);
  if (!greedy && uses_mirostat(options)) return say_beside_mirostat(options, command);
  const std::vector<std::string> samplers = samplers_in_order(options);
  std::vector<std::string> left_out;
  for (const ReaderRule& rule : reader_rules()) {
    if (!is_given(options, rule.json) || (greedy && !can_reorder(rule))) continue;
    const auto runs = [&](const std::string& name) { return std::ranges::find(samplers, name) != samplers.end(); };
    if (std::ranges::none_of(rule.samplers, runs)) left_out.push_back(flag_of(command, rule.json));
  }
  say_no_effect(left_out, fmt::format("because {} leaves {} out", options.samplers ? "--samplers" : "--sampler-seq",
                                      left_out.size() == 1 ? "its sampler" : "their samplers")
                              .c_str());
}

}  // namespace lacake::cli
