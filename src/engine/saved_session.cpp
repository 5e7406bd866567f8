#include "engine/saved_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "lacake/error.h"

namespace lacake {
namespace {

constexpr std::uint64_t kMany = INT32_MAX;
constexpr std::uint64_t kMostMoments = 10'000;

}  // namespace

std::string moment_name(std::size_t moment) { return fmt::format("at.{}.", moment); }

std::string layer_part(const std::string& when, int layer, const char* what) {
  return fmt::format("{}blk.{}.{}", when, layer, what);
}

std::vector<std::int64_t> differences(std::span<const std::int32_t> values) {
  std::vector<std::int64_t> result(values.size());
  std::int64_t before = 0;
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = values[i] - std::exchange(before, values[i]);
  return result;
}

std::vector<std::int64_t> sums(std::span<const std::int64_t> steps) {
  std::vector<std::int64_t> result;
  std::uint64_t sum = 0;  // whose overflow is defined, whatever a file says
  for (const std::int64_t step : steps) result.push_back((std::int64_t)(sum += (std::uint64_t)step));
  return result;
}

std::vector<std::size_t> saved_lengths(const PartsFile& file, const std::string& when, std::size_t n_lanes) {
  const std::vector<std::int64_t> lengths = file.integers(when + "lengths");
  if (lengths.size() != n_lanes) {
    file.fail("part " + when + "lengths", fmt::format("{} numbers", n_lanes), fmt::format("{}", lengths.size()));
  }
  for (const std::int64_t n : lengths) {
    if (n < 0 || n > INT32_MAX) file.fail("part " + when + "lengths", "numbers of entries", fmt::format("{}", n));
  }
  return {lengths.begin(), lengths.end()};
}

void require_snapshot(const PartsFile& file) {
  if (!file.has("general.type") || file.text("general.type") != kSessionKind) {
    file.fail("general.type", kSessionKind, file.has("general.type") ? file.text("general.type") : "none");
  }
  file.number("snapshot.version", kOldestSnapshotVersion, kSnapshotVersion);
}

SessionOptions saved_options(const PartsFile& file) {
  SessionOptions options;
  try {
    options.policy = PolicySpec::parse(file.text("session.policy"));
    options.types = CacheTypes::parse(file.text("session.kv_type"));
  } catch (const Error& e) {
    throw Error({.subject = file.path(),
                 .found = fmt::format("made with a policy or setting that is not known here: {}", e.what())});
  }
  const std::string unit = file.text("session.kv_budget.unit");
  const auto known = std::find(kBudgetUnits.begin(), kBudgetUnits.end(), unit);
  if (known == kBudgetUnits.end()) file.fail("session.kv_budget.unit", "none, entries, share or bytes", unit);
  options.budget = {(Budget::Unit)(known - kBudgetUnits.begin()), file.real("session.kv_budget.value")};
  // What Budget::parse would have refused.
  constexpr std::array<double, 4> kMost = {0, 1e12, 1, 1e18};  // as kBudgetUnits
  const double value = options.budget.value, most = kMost[(std::size_t)options.budget.unit];
  const bool whole = options.budget.unit == Budget::Unit::kShare || value == std::floor(value);
  if (options.budget.given() ? value <= 0 || value > most || !whole : value != 0) {
    file.fail("session.kv_budget.value", fmt::format("above 0, {} at most", most), fmt::format("{}", value));
  }
  const std::string prefill = file.text("session.prefill");
  if (prefill != "exact" && prefill != "streaming") file.fail("session.prefill", "exact or streaming", prefill);
  options.prefill = prefill == "exact" ? PrefillMode::kExact : PrefillMode::kStreaming;
  options.chunk = file.number("session.chunk", 0, kMany);
  options.prompt_tokens = file.number("session.prompt_tokens", 0, kMany);
  options.new_tokens = file.number("session.new_tokens", 0, kMany);
  options.single_turn = file.flag("session.single_turn");
  if (file.has("session.repeat_frame")) options.repeat_frame = file.number("session.repeat_frame", 0, kMany);
  return options;
}

std::vector<SavedCheckpoint> saved_checkpoints(const PartsFile& file) {
  const std::uint64_t n_tokens = file.number("session.n_tokens", 0, kMany);
  const std::uint64_t n = file.number("session.n_checkpoints", 0, kMostMoments);
  std::vector<SavedCheckpoint> all;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t least = all.empty() ? 0 : all.back().n_tokens;
    all.push_back({.n_tokens = file.number(moment_name(i) + "n_tokens", least, n_tokens),
                   .bytes = file.number(moment_name(i) + "bytes", 0, INT64_MAX)});
  }
  return all;
}

std::uint64_t saved_row_bytes(const PartsFile& file) {
  std::uint64_t bytes = 0;
  for (const std::string& name : file.part_names()) {
    const bool rows = name.starts_with("blk.") && (name.ends_with(".k") || name.ends_with(".v"));
    if (rows) bytes += file.part(name).bytes.size();
  }
  return bytes;
}

std::vector<std::int64_t> saved_positions(const PartsFile& file, int layer, int head) {
  const std::size_t n_layer = file.number("cache.n_layer", 1, kMany),
                    n_head_kv = file.number("cache.n_head_kv", 1, kMany);
  const std::vector<std::size_t> lengths = saved_lengths(file, kNow, n_layer * n_head_kv);
  const std::size_t first = (std::size_t)layer * n_head_kv;
  const std::size_t list = file.flag("cache.per_head") ? (std::size_t)head : 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < list; ++i) begin += lengths[first + i];
  if (lengths[first + list] == 0) return {};
  const std::string name = layer_part(kNow, layer, "positions");
  const std::vector<std::int64_t> steps = file.varints(name);
  if (begin + lengths[first + list] > steps.size()) {
    file.fail("part " + name, "as many numbers as `lengths` says", fmt::format("{}", steps.size()));
  }
  return sums(std::span(steps).subspan(begin, lengths[first + list]));
}

}  // namespace lacake
