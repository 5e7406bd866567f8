#include "engine/reading_limits.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "lacake/error.h"

namespace lacake {
namespace {

// Policies that can run beyond the model's training length, because their positions are cache indices.
std::string policies_by_cache_index(const AttentionShape& shape) {
  std::vector<std::string> names;
  for (const PolicyType& type : policy_types()) {
    if (!type.bounded) continue;
    try {
      const PolicySpec spec{.type = find_policy_type(type.name)};
      if (spec.positions(shape) == Positions::kCompacted) names.push_back(type.name);
    } catch (const Error&) {
      continue;  // cannot run on this model: no remedy
    }
  }
  return fmt::format("{}", fmt::join(names, " or "));
}

}  // namespace

void check_peak(const SessionPlan& plan, const SessionOptions& options, const Policy& policy, std::size_t n_held,
                std::size_t n_new) {
  const std::size_t room = plan.full_layer_entries, peak = policy.peak_entries(n_held, n_new);
  const bool streaming = options.prefill == PrefillMode::kStreaming;
  if (peak <= room || (streaming && policy.peak_entries(plan.cache_size, plan.chunk) <= room)) return;
  throw Error(
      {.kind = Error::Kind::kCapacity,
       .subject = "policy " + options.policy.text(),
       .expected = fmt::format("at most {} entries a layer at any moment, the budget", room),
       .found = fmt::format("{} while {} tokens{} are read{}", peak, n_new,
                            streaming ? fmt::format(" in chunks of {}", plan.chunk) : "",
                            n_held > 0 ? fmt::format(" beside the {} entries a layer that it holds", n_held) : "")});
}

void check_positions(const EngineState& engine, const SessionOptions& options, const Policy& policy,
                     std::size_t last_position) {
  const Hyperparameters& h = engine.model.hyperparameters;
  if (engine.any_length || last_position <= (std::size_t)h.n_ctx_train) return;
  const bool index = policy.traits().positions == Positions::kCompacted;
  if (index && options.prefill == PrefillMode::kStreaming) return;
  const std::string policies =
      index ? "" : fmt::format("policy {} with ", policies_by_cache_index(engine.layers.policy_shape()));
  throw Error({.kind = Error::Kind::kInput,
               .subject = "prompt",
               .expected = fmt::format("at most the model's training length {}", h.n_ctx_train),
               .found = fmt::format("{} tokens", last_position),
               .remedy = policies + "`prefill` streaming would read it, and forget most of what is far back"});
}

}  // namespace lacake
