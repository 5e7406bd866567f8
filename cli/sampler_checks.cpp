#include "sampler_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/error.h"
#include "lacake/sampler.h"
#include "library_options.h"
#include "output.h"
#include "text/sampler_names.h"

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

// An option and the samplers that look at it, by their names in `--samplers`; names that are not needed are empty.
struct ReaderRule {
  const char* json;
  std::array<std::string_view, 4> samplers;
};

constexpr ReaderRule kReaderRules[] = {
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

bool is_temp(const ReaderRule& rule) { return std::string_view(rule.json) == "temp"; }

// Flags that were given: of the rules that `idle` is true of, and `others`.
template <class Idle>
std::vector<std::string> idle_flags(const Options& options, Command command, const Idle& idle,
                                    std::initializer_list<const char*> others = {}) {
  std::vector<std::string> flags;
  const auto add = [&](const char* json) {
    if (is_given(options, json)) flags.push_back(flag_of(command, json));
  };
  for (const ReaderRule& rule : kReaderRules) {
    if (idle(rule)) add(rule.json);
  }
  for (const char* json : others) add(json);
  return flags;
}

void say_no_effect(const std::vector<std::string>& flags, std::string_view why) {
  if (flags.empty()) return;
  warn(fmt::format("{} {} no effect {}", fmt::join(flags, ", "), flags.size() == 1 ? "has" : "have", why));
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
  const std::vector<std::string> names = sampler_names(options);
  const bool greedy = options.temp.value_or(SamplerOptions().temp) <= 0;
  if (!greedy && uses_mirostat(options)) {
    const auto is_idle = [](const ReaderRule& rule) { return !is_temp(rule); };
    return say_no_effect(idle_flags(options, command, is_idle, {"samplers", "sampling_seq"}),
                         "beside --mirostat, which runs in place of all other samplers");
  }
  const auto is_skipped = [&](const ReaderRule& rule) { return greedy && !reorders(rule.samplers[0]); };
  if (greedy) {
    const auto is_idle = [&](const ReaderRule& rule) { return is_skipped(rule) && !is_temp(rule); };
    say_no_effect(idle_flags(options, command, is_idle, {"mirostat", "mirostat_eta", "mirostat_tau"}),
                  "beside --temp 0, which takes the likeliest token");
  }
  const auto is_left_out = [&](const ReaderRule& rule) {
    return !is_skipped(rule) && std::ranges::find_first_of(rule.samplers, names) == rule.samplers.end();
  };
  const std::vector<std::string> left_out = idle_flags(options, command, is_left_out);
  say_no_effect(left_out, fmt::format("because {} leaves {} out", options.samplers ? "--samplers" : "--sampler-seq",
                                      left_out.size() == 1 ? "its sampler" : "their samplers"));
}

}  // namespace lacake::cli
