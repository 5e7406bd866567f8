#include <algorithm>
#include <cmath>
#include <map>

#include "eval/intervals.h"
#include "eval/perplexity.h"

namespace lacake::eval {
namespace {

struct Sums {
  std::size_t n = 0;
  double nll = 0;
  double squares = 0;
  std::map<std::size_t, std::pair<double, std::size_t>> windows;  // by first token: sum, count
  double kl = 0, same = 0;
  std::size_t compared = 0;
  std::map<std::string, std::pair<std::size_t, std::vector<double>>> samples;  // the first token and each one's nll
  double peak_bytes = 0, held_bytes = 0, full_bytes = 0;

  void add(const nlohmann::json& record, std::size_t window) {
    const auto& values = record.at("nll");
    const std::size_t first = record.at("first");
    samples[record.at("sample")] = {first, values.get<std::vector<double>>()};
    nll += record.at("sum").get<double>();
    n += values.size();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double x = values[i];
      squares += x * x;
      auto& [sum, count] = windows[(first + i) / window * window];
      sum += x;
      ++count;
    }
    if (record.contains("kl")) {
      kl += record["kl"].get<double>() * (double)values.size();
      same += record["same"].get<double>() * (double)values.size();
      compared += values.size();
    }
    const auto& kv = record.at("kv");
    peak_bytes = std::max(peak_bytes, kv.at("peak_bytes").get<double>());
    held_bytes += kv.at("held_bytes").get<double>();
    full_bytes += kv.at("full_bytes").get<double>();
  }

  nlohmann::json json() const {
    const auto n_samples = (double)samples.size();
    const double mean = nll / (double)n, variance = squares / (double)n - mean * mean;
    const double error = n > 1 && variance > 0 ? std::sqrt(variance / (double)(n - 1)) : 0;
    nlohmann::json out = {
        {"tokens", n},
        {"perplexity", std::exp(mean)},
        {"standard_error", error * std::exp(mean)},
        {"interval", {std::exp(mean - 1.96 * error), std::exp(mean + 1.96 * error)}},
        {"kv",
         {{"peak_bytes", peak_bytes}, {"held_bytes", held_bytes / n_samples}, {"full_bytes", full_bytes / n_samples}}}};
    if (compared > 0) out["kl"] = kl / (double)compared, out["same"] = same / (double)compared;
    for (const auto& [from, window] : windows) {
      out["windows"].push_back({{"from", from}, {"perplexity", std::exp(window.first / (double)window.second)}});
    }
    return out;
  }
};

// Perplexity of `a` to that of `b` on the tokens that both have; none: an empty object.
nlohmann::json ratio_to(const Sums& a, const Sums& b, std::size_t window) {
  std::vector<Draw> draws;
  for (const auto& [sample, scored] : a.samples) {
    const auto& [first, nll] = scored;
    const auto other = b.samples.find(sample);
    if (other == b.samples.end() || other->second.first != first || other->second.second.size() != nll.size()) continue;
    for (std::size_t i = 0; i < nll.size(); ++i) {
      draws.push_back({.text = sample + "/" + std::to_string((first + i) / window),
                       .value = nll[i],
                       .other = other->second.second[i]});
    }
  }
  if (draws.empty()) return nlohmann::json::object();
  const Interval more = difference(draws);
  // Equal on every token is equal: here nothing else was drawn.
  const bool same = std::ranges::all_of(draws, [](const Draw& draw) { return draw.value == draw.other; });
  const double low = same ? 0 : more.low, high = same ? 0 : more.high;
  return {{"tokens", more.n}, {"ratio", std::exp(more.value)}, {"interval", {std::exp(low), std::exp(high)}}};
}

}  // namespace

nlohmann::json perplexity_metrics(const std::vector<nlohmann::json>& records, const std::vector<Configuration>& grid,
                                  std::size_t window, std::string_view beside) {
  std::map<std::string, Sums> sums;
  for (const nlohmann::json& record : records) sums[record.at("cell")].add(record, window);
  nlohmann::json cells = nlohmann::json::array();
  for (const Configuration& cell : grid) {
    const auto found = sums.find(cell.name());
    if (found == sums.end()) continue;
    nlohmann::json row = found->second.json();
    for (const Configuration& other : grid) {
      if (!other.full() || other.name() == cell.name() || !sums.contains(other.name())) continue;
      row["ratio"] = ratio_to(found->second, sums[other.name()], window);
      break;
    }
    if (const Configuration* other = cell_beside(grid, cell, beside); other && sums.contains(other->name())) {
      row["beside"] = ratio_to(found->second, sums[other->name()], window);
      row["beside"]["cell"] = other->name();
    }
    row["cell"] = cell.name();
    row["policy"] = cell.policy.text();
    row["budget"] = cell.budget.given() ? nlohmann::json(cell.budget.text()) : nlohmann::json();
    cells.push_back(std::move(row));
  }
  return {{"schema", 2}, {"task", "perplexity"}, {"window", window}, {"cells", cells}};
}

}  // namespace lacake::eval
