#include <algorithm>
#include <cmath>
#include <map>

#include "eval/answers.h"

namespace lacake::eval {
namespace {

struct Mean {
  std::size_t n = 0;
  double sum = 0, squares = 0;

  void add(double x) { ++n, sum += x, squares += x * x; }
  void add(const nlohmann::json& record, const char* key) {
    if (record.contains(key)) add(record[key].get<double>());
  }
  double mean() const { return sum / (double)n; }
  double interval() const {
    if (n < 2) return 0;
    const double variance = (squares - sum * sum / (double)n) / (double)(n - 1);
    return 1.96 * std::sqrt(std::max(0.0, variance) / (double)n);
  }
};

struct Sums {
  Mean score, kl, same, decode_ms, prefill, held, full;
  double peak = 0;
  std::map<std::string, std::pair<nlohmann::json, Mean>> groups;  // by the tags' text
  std::map<std::string, Mean> tasks;

  void add(const nlohmann::json& record) {
    score.add(record, "score");
    kl.add(record, "kl");
    same.add(record, "same");
    decode_ms.add(record, "decode_ms");
    const auto& pass = record.at("pass");
    prefill.add(1e3 * record.at("tokens").at("prompt").get<double>() / pass.at("prefill_ms").get<double>());
    const auto& kv = record.at("kv");
    held.add(kv, "held_bytes");
    full.add(kv, "full_bytes");
    peak = std::max(peak, kv.at("peak_bytes").get<double>());
    auto& [tags, mean] = groups[record.at("tags").dump()];
    tags = record.at("tags");
    mean.add(record, "score");
    if (tags.contains("task")) tasks[tags["task"]].add(record, "score");
  }
};

}  // namespace

nlohmann::json answer_metrics(std::string_view task, const std::vector<nlohmann::json>& records,
                              const std::vector<Configuration>& grid) {
  std::map<std::string, Sums> sums;
  for (const nlohmann::json& record : records) sums[record.at("cell")].add(record);
  double reference = 0;
  for (const Configuration& cell : grid) {
    if (cell.full() && sums.contains(cell.name())) reference = sums[cell.name()].score.mean();
  }
  nlohmann::json cells = nlohmann::json::array();
  for (const Configuration& cell : grid) {
    const auto found = sums.find(cell.name());
    if (found == sums.end()) continue;
    const Sums& s = found->second;
    nlohmann::json row = {
        {"cell", cell.name()},
        {"policy", cell.policy.text()},
        {"budget", cell.budget.given() ? nlohmann::json(cell.budget.text()) : nlohmann::json()},
        {"samples", s.score.n},
        {"score", s.score.mean()},
        {"interval", s.score.interval()},
        {"kv", {{"peak_bytes", s.peak}, {"held_bytes", s.held.mean()}, {"full_bytes", s.full.mean()}}},
        {"pass_prefill_tokens_per_s", s.prefill.mean()}};
    if (reference > 0) row["retention"] = s.score.mean() / reference;
    if (s.kl.n > 0) row["kl"] = s.kl.mean();
    if (s.same.n > 0) row["same"] = s.same.mean();
    if (s.decode_ms.n > 0) row["decode_ms"] = s.decode_ms.mean();
    if (!s.tasks.empty()) {
      Mean mean;
      for (const auto& [name, scores] : s.tasks) mean.add(scores.mean());
      row["task_mean"] = mean.mean();
    }
    for (const auto& [text, group] : s.groups) {
      row["groups"].push_back({{"tags", group.first}, {"samples", group.second.n}, {"score", group.second.mean()}});
    }
    cells.push_back(std::move(row));
  }
  return {{"schema", 1}, {"task", task}, {"cells", cells}};
}

}  // namespace lacake::eval
