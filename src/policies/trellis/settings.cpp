#include "policies/trellis/settings.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "lacake/error.h"
#include "policies/parameters.h"
#include "policies/shared_parameters.h"
#include "policies/trellis/trellis.h"

namespace lacake::trellis {
namespace {

// Tokens that the model repeats at a time.
constexpr std::size_t kRepeatChunk = 2000;

}  // namespace

Settings read_settings(const PolicySettings& given, const AttentionShape& shape, RankedPolicy::Options& options) {
  const PolicyType& type = trellis_policy();
  const auto refuse = [&](std::string expected, const char* found) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = policy_subject(type.name),
                 .expected = std::move(expected),
                 .found = found});
  };
  const bool joint = options.sharing == RankedPolicy::Options::Sharing::kJoint;
  if (joint && given.contains("preference")) {
    refuse("no preference= with heads=joint, where scores alone divide the entries among layers", "both");
  }
  const bool even =
      options.sharing == RankedPolicy::Options::Sharing::kEven && options.positions == Positions::kOriginal;
  if (given.contains("question") && !even) {
    refuse("no question= beside heads=adaptive, heads=joint or positions=compacted", "both");
  }
  options.changes_sharing = even && has_word(type, given, "question", "auto");
  const bool repeats = has_word(type, given, "replay", "on");
  for (const char* name : {"worth", "replay", "defence", "length", "regions"}) {
    if (!given.contains(name) || options.changes_sharing) continue;
    refuse(fmt::format("{}= with question=auto, where a text is kept by its worth", name), "a form that has none");
  }
  const bool learned = has_word(type, given, "learned", "on");
  if (learned) require_calibration(type, shape);
  if (learned && !options.changes_sharing) {
    refuse("learned=on with question=auto, where a text is kept by its worth", "a form that has none");
  }
  if (learned && repeats) refuse("learned=on or replay=on, each of which judges by itself", "both");
  for (const char* name : {"defence", "length"}) {
    if (!given.contains(name) || !repeats) continue;
    refuse(fmt::format("no {}= with replay=on, which judges by other measures", name), "both");
  }
  if (options.changes_sharing && repeats) options.repeat_chunk = kRepeatChunk;
  options.uneven_layers = !joint && size_setting(type, given, "preference") > 0;
  Settings settings;
  settings.rows = size_setting(type, given, "rows");
  if (given.contains("rows")) settings.rows_behind = settings.rows;
  settings.preference = joint ? 0 : size_setting(type, given, "preference");
  settings.gamma = (float)number_setting(type, given, "gamma");
  settings.onward = (float)number_setting(type, given, "onward");
  settings.spread = (float)number_setting(type, given, "spread");
  settings.memory = number_setting(type, given, "memory");
  settings.recent = number_setting(type, given, "recent");
  settings.ladder = number_setting(type, given, "ladder");
  settings.every = size_setting(type, given, "every");
  settings.learned = learned;
  // A learned score is one of what is lost, which knows lengths.
  if (!learned || given.contains("defence")) settings.defence = (float)number_setting(type, given, "defence");
  if (!learned || given.contains("length")) settings.length = (float)number_setting(type, given, "length");
  settings.worth = (float)number_setting(type, given, "worth");
  settings.regions = number_setting(type, given, "regions");
  return settings;
}

PolicySettings settings_at_opening(const PolicySettings& given, const AttentionShape& shape, double) {
  const PolicyType& type = trellis_policy();
  const bool has_worth = has_word(type, given, "question", "auto") && has_word(type, given, "positions", "original") &&
                         has_word(type, given, "heads", "even");
  const bool can = shape.calibration != 0 && has_worth && !has_word(type, given, "replay", "on");
  return can && !given.contains("learned") ? PolicySettings{{"learned", "on"}} : PolicySettings{};
}

std::vector<PolicyParameter> parameters() {
  return with_head_parameters(
      {{.name = "rows",
        .kind = PolicyParameter::Kind::kWholeNumber,
        .default_value = 16,
        .min = 1,
        .max = 4096,
        .help = "last queries of a prompt that are looked at",
        .default_text = "16; of a question whose text was read before it 1"},
       {.name = "preference",
        .kind = PolicyParameter::Kind::kWholeNumber,
        .default_value = 16,
        .min = 0,
        .max = 4096,
        .help = "last queries of a prompt whose dispersion and shift divide the entries among layers; 0: layers alike"},
       {.name = "onward",
        .default_value = 0.8,
        .min = 0,
        .max = 0.99,
        .help = "an entry of a prompt counts at least this share, for each token between, of what an earlier one "
                "counts; 0: only its own"},
       {.name = "gamma",
        .default_value = 200,
        .min = 0,
        .max = 1e6,
        .help = "weight of a prompt's variance over these rows beside their mean; nothing with rows=1"},
       {.name = "memory",
        .default_value = 1024,
        .min = 1,
        .max = 1e9,
        .help = "tokens of an answer after which what an entry received counts 1/e"},
       {.name = "spread",
        .default_value = 1,
        .min = 0,
        .max = 1e6,
        .help = "weight of the remembered standard deviation beside the mean"},
       {.name = "recent",
        .default_value = 0.25,
        .min = 0,
        .max = 1,
        .help = "share of a layer for the newest entries of an answer; the prompt's are none"},
       {.name = "ladder",
        .default_value = 0.2,
        .min = 0,
        .max = 1,
        .help = "in an answer, share of a layer for the best entry of each region, shifted from layer to layer"},
       {.name = "every",
        .kind = PolicyParameter::Kind::kWholeNumber,
        .min = 0,
        .max = 1024,
        .help = "in decoding one query in so many is looked at",
        .default_text = "C / 1024, rounded up"},
       {.name = "question",
        .kind = PolicyParameter::Kind::kWord,
        .default_value = "auto",
        .words = {"auto", "seen"},
        .help = "auto: a text whose question is not there yet is kept by what any question may need; seen: never so"},
       {.name = "replay",
        .kind = PolicyParameter::Kind::kWord,
        .default_value = "off",
        .words = {"off", "on"},
        .help = "on: such a text is judged by what the model looks at when it repeats it (KVzip), a second reading"},
       {.name = "learned",
        .kind = PolicyParameter::Kind::kWord,
        .default_value = "off",
        .words = {"off", "on"},
        .help = "on: such a text is judged by the model's calibration (see policy learned)",
        .default_text = "on where there is one"},
       {.name = "defence",
        .default_value = 0.05,
        .min = 0,
        .max = 1e6,
        .help = "without replay: weight of the most that the text's last queries saw, on a scale of decimal powers",
        .default_text = "0.05, with learned=on 0"},
       {.name = "length",
        .default_value = 0.1,
        .min = 0,
        .max = 1e6,
        .help = "without replay: weight of the length of the value behind W_O, likewise",
        .default_text = "0.1, with learned=on 0"},
       {.name = "worth",
        .default_value = 0.5,
        .min = 0,
        .max = 1e6,
        .help = "weight of that beside what the question and the answer attended to"},
       {.name = "regions",
        .default_value = 0,
        .min = 0,
        .max = 1,
        .help = "share of a head's even part for the best entry of each region of such a text, whatever its worth"},
       sinks_parameter(),
       window_parameter(4, 1, 4096),
       evict_fraction_parameter(1.0 / 32),
       positions_parameter()});
}

}  // namespace lacake::trellis
