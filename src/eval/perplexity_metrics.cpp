#include <algorithm>
#include <cmath>
#include <map>

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
  double peak_bytes = 0, held_bytes = 0, full_bytes = 0, samples = 0;

  void add(const nlohmann::json& record, std::size_t window) {
    const auto& values = record.at("nll");
    const std::size_t first = record.at("first");
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
    samples += 1;
  }

  nlohmann::json json() const {
    const double mean = nll / (double)n, variance = squares / (double)n - mean * mean;
    nlohmann::json out = {
        {"tokens", n},
        {"perplexity", std::exp(mean)},
        {"standard_error", n > 1 && variance > 0 ? std::sqrt(variance / (double)(n - 1)) * std::exp(mean) : 0},
        {"kv",
         {{"peak_bytes", peak_bytes}, {"held_bytes", held_bytes / samples}, {"full_bytes", full_bytes / samples}}}};
    if (compared > 0) out["kl"] = kl / (double)compared, out["same"] = same / (double)compared;
    for (const auto& [from, window] : windows) {
      out["windows"].push_back({{"from", from}, {"perplexity", std::exp(window.first / (double)window.second)}});
    }
    return out;
  }
};

}  // namespace

nlohmann::json perplexity_metrics(const std::vector<nlohmann::json>& records, const std::vector<Configuration>& grid,
                                  std::size_t window) {
  std::map<std::string, Sums> sums;
  for (const nlohmann::json& record : records) sums[record.at("cell")].add(record, window);
  nlohmann::json cells = nlohmann::json::array();
  for (const Configuration& cell : grid) {
    const auto found = sums.find(cell.name());
    if (found == sums.end()) continue;
    nlohmann::json row = found->second.json();
    row["cell"] = cell.name();
    row["policy"] = cell.policy.text();
    row["budget"] = cell.budget.given() ? nlohmann::json(cell.budget.text()) : nlohmann::json();
    cells.push_back(std::move(row));
  }
  return {{"schema", 1}, {"task", "perplexity"}, {"window", window}, {"cells", cells}};
}

}  // namespace lacake::eval
