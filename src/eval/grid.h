#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "lacake/engine.h"

namespace lacake::eval {

// A policy with a budget: one column of every table.
struct Configuration {
  PolicySpec policy;
  Budget budget;  // none for policies that keep everything, and where the policy says cache_size=

  bool full() const { return !policy.type->bounded; }
  std::string name() const;  // "lacache:span=8 @ 512"; a key, the same for the same cell
  // A name back to its cell. Throws Error(kUsage) for a policy or budget that is not known here.
  static Configuration parse(std::string_view name);
};

// The cell that others are held against: `beside` names it as name() does, or its policy alone, and then it is the one
// with the budget of `cell`, or of none. Null for "", where there is no such cell, and for `cell` itself.
const Configuration* cell_beside(const std::vector<Configuration>& grid, const Configuration& cell,
                                 std::string_view beside);

// Policies x budgets, in this order; the unbounded come once, and so does what is given twice. "all" stands for every
// policy that can run: without a calibration of the model not for those that need one. Throws Error(kUsage) for a
// policy or budget that cannot be understood, or a bounded policy without any budget.
std::vector<Configuration> make_grid(std::span<const std::string> policies, std::span<const std::string> budgets,
                                     bool calibrated = false);

// What all cells of an evaluation share.
struct ConfigurationOptions {
  CacheTypes types;
  PrefillMode prefill = PrefillMode::kExact;
};

// The session of a cell for a prompt of `prompt_tokens` and `new_tokens` more. A share refers to `share_of` tokens.
SessionOptions cell_session(const Configuration& cell, const ConfigurationOptions& options, std::size_t prompt_tokens,
                            std::size_t new_tokens, std::size_t share_of);

// Cells by index, in groups whose caches together take at most `most_bytes` (a cell that alone takes more is a group of
// its own). `first`, if there, is in every group: the cell that the others are compared with.
std::vector<std::vector<std::size_t>> passes(std::span<const std::uint64_t> cache_bytes,
                                             std::span<const std::size_t> wanted, const std::size_t* first,
                                             std::uint64_t most_bytes);

// A sentence for a user where cells of one table have records of different samples, so that their means are not of the
// same texts; "" where all have the same.
std::string uneven_samples(const std::vector<nlohmann::json>& records, const std::vector<Configuration>& grid);

nlohmann::json cache_use_json(const CacheUse& use);

}  // namespace lacake::eval
