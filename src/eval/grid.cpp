#include "eval/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "lacake/error.h"

namespace lacake::eval {

std::string Configuration::name() const {
  return budget.given() ? fmt::format("{} @ {}", policy.text(), budget.text()) : policy.text();
}

Configuration Configuration::parse(std::string_view name) {
  const std::size_t at = name.rfind(" @ ");
  Configuration cell{PolicySpec::parse(name.substr(0, at)), {}};
  if (at != std::string_view::npos) cell.budget = Budget::parse(name.substr(at + 3));
  return cell;
}

const Configuration* cell_beside(const std::vector<Configuration>& grid, const Configuration& cell,
                                 std::string_view beside) {
  if (beside.empty()) return nullptr;
  const Configuration wanted = Configuration::parse(beside);
  const auto found = std::ranges::find_if(grid, [&](const Configuration& other) {
    if (wanted.budget.given()) return other.name() == wanted.name();
    const bool budget = !other.budget.given() || other.budget.text() == cell.budget.text();
    return other.policy.text() == wanted.policy.text() && budget;
  });
  return found == grid.end() || found->name() == cell.name() ? nullptr : &*found;
}

std::vector<Configuration> make_grid(std::span<const std::string> policies, std::span<const std::string> budgets,
                                     bool calibrated) {
  std::vector<Budget> sizes;
  for (const std::string& text : budgets) sizes.push_back(Budget::parse(text));
  std::vector<PolicySpec> specs;
  for (const std::string& text : policies) {
    if (text != "all") {
      specs.push_back(PolicySpec::parse(text));
      continue;
    }
    for (const PolicyType& type : policy_types()) {
      if (calibrated || !type.needs_calibration) specs.push_back(PolicySpec::parse(type.name));
    }
  }
  std::vector<Configuration> cells;
  std::set<std::string> names;
  const auto add = [&](Configuration cell) {
    if (names.insert(cell.name()).second) cells.push_back(std::move(cell));
  };
  for (const PolicySpec& spec : specs) {
    if (!spec.type->bounded || spec.cache_size > 0) {
      add({spec, {}});
      continue;
    }
    if (sizes.empty()) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "policy " + spec.text(),
                   .expected = "a budget (`kv_budget` 1024, 3.2% or 256MiB)",
                   .found = "none"});
    }
    for (const Budget& budget : sizes) add({spec, budget});
  }
  return cells;
}

SessionOptions cell_session(const Configuration& cell, const ConfigurationOptions& options, std::size_t prompt_tokens,
                            std::size_t new_tokens, std::size_t share_of) {
  SessionOptions session{.policy = cell.policy,
                         .budget = cell.budget,
                         .types = options.types,
                         .prefill = options.prefill,
                         .prompt_tokens = prompt_tokens,
                         .new_tokens = new_tokens};
  if (cell.budget.unit == Budget::Unit::kShare) {
    session.budget = {Budget::Unit::kEntries, std::max(1.0, (double)cell.budget.entries(share_of))};
    session.budget_share = cell.budget.value;
  }
  return session;
}

std::vector<std::vector<std::size_t>> passes(std::span<const std::uint64_t> cache_bytes,
                                             std::span<const std::size_t> wanted, const std::size_t* first,
                                             std::uint64_t most_bytes) {
  std::vector<std::vector<std::size_t>> groups;
  std::uint64_t held = 0;
  for (const std::size_t cell : wanted) {
    if (first && cell == *first) continue;
    if (groups.empty() || held + cache_bytes[cell] > most_bytes) {
      groups.emplace_back();
      held = 0;
      if (first) {
        groups.back().push_back(*first);
        held += cache_bytes[*first];
      }
    }
    groups.back().push_back(cell);
    held += cache_bytes[cell];
  }
  if (groups.empty() && first && !wanted.empty()) groups.push_back({*first});
  return groups;
}

std::string uneven_samples(const std::vector<nlohmann::json>& records, const std::vector<Configuration>& grid) {
  std::map<std::string, std::set<std::string>> samples;
  for (const nlohmann::json& record : records) samples[record.at("cell")].insert(record.at("sample"));
  const std::set<std::string>* first = nullptr;
  std::vector<std::string> counts;
  bool uneven = false;
  for (const Configuration& cell : grid) {
    const auto at = samples.find(cell.name());
    if (at == samples.end()) continue;
    if (!first) first = &at->second;
    uneven = uneven || *first != at->second;
    counts.push_back(fmt::format("{} has {}", cell.name(), at->second.size()));
  }
  if (!uneven) return "";
  return fmt::format("cells have different samples, so their means are not of the same texts: {}",
                     fmt::join(counts, ", "));
}

nlohmann::json cache_use_json(const CacheUse& use) {
  return {{"budget_bytes", use.budget_bytes},
          {"held_bytes", use.held_bytes},
          {"peak_bytes", use.peak_bytes},
          {"full_bytes", use.full_bytes}};
}

}  // namespace lacake::eval
