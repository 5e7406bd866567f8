#include <algorithm>
#include <map>

#include "eval/answers.h"
#include "eval/intervals.h"

namespace lacake::eval {
namespace {

struct Mean {
  std::size_t n = 0;
  double sum = 0;

  void add(double x) { ++n, sum += x; }
  void add(const nlohmann::json& record, const char* key) {
    if (record.contains(key)) add(record[key].get<double>());
  }
  double mean() const { return sum / (double)n; }
};

struct Sums {
  Mean kl, same, decode_ms, prefill, held, full;
  double peak = 0;
  std::map<std::string, Draw> scores;                                          // by sample
  std::map<std::string, std::pair<nlohmann::json, std::vector<Draw>>> groups;  // by the tags' text
  std::map<std::size_t, std::vector<Draw>> questions;                          // by number
  bool has_tasks = false;

  void add(const nlohmann::json& record) {
    kl.add(record, "kl");
    same.add(record, "same");
    decode_ms.add(record, "decode_ms");
    const auto& pass = record.at("pass");
    prefill.add(1e3 * record.at("tokens").at("prompt").get<double>() / pass.at("prefill_ms").get<double>());
    const auto& kv = record.at("kv");
    held.add(kv, "held_bytes");
    full.add(kv, "full_bytes");
    peak = std::max(peak, kv.at("peak_bytes").get<double>());

    const nlohmann::json& tags = record.at("tags");
    const std::string sample = record.at("sample");
    Draw draw{.text = record.value("text", sample), .value = record.at("score")};
    if (tags.contains("task")) draw.stratum = tags["task"], has_tasks = true;
    auto& [group_tags, group] = groups[tags.dump()];
    group_tags = tags;
    group.push_back(draw);
    if (record.contains("question")) questions[record["question"]].push_back(draw);
    scores[sample] = std::move(draw);
  }

  std::vector<Draw> draws() const {
    std::vector<Draw> all;
    for (const auto& [sample, draw] : scores) all.push_back(draw);
    return all;
  }
};

// Both cells' scores on the samples that both have.
std::vector<Draw> pairs(const Sums& a, const Sums& b) {
  std::vector<Draw> all;
  for (const auto& [sample, draw] : a.scores) {
    const auto found = b.scores.find(sample);
    if (found == b.scores.end()) continue;
    all.push_back(draw);
    all.back().other = found->second.value;
  }
  return all;
}

nlohmann::json bounds(const Interval& interval) { return {interval.low, interval.high}; }

}  // namespace

nlohmann::json answer_metrics(std::string_view task, const std::vector<nlohmann::json>& records,
                              const std::vector<Configuration>& grid, std::string_view beside) {
  std::map<std::string, Sums> sums;
  for (const nlohmann::json& record : records) sums[record.at("cell")].add(record);
  const Sums* reference = nullptr;
  for (const Configuration& cell : grid) {
    if (!reference && cell.full() && sums.contains(cell.name())) reference = &sums[cell.name()];
  }
  nlohmann::json cells = nlohmann::json::array();
  for (const Configuration& cell : grid) {
    const auto found = sums.find(cell.name());
    if (found == sums.end()) continue;
    const Sums& s = found->second;
    const Interval score = mean(s.draws());
    nlohmann::json row = {
        {"cell", cell.name()},
        {"policy", cell.policy.text()},
        {"budget", cell.budget.given() ? nlohmann::json(cell.budget.text()) : nlohmann::json()},
        {"samples", score.n},
        {"score", score.value},
        {"interval", bounds(score)},
        {"kv", {{"peak_bytes", s.peak}, {"held_bytes", s.held.mean()}, {"full_bytes", s.full.mean()}}},
        {"pass_prefill_tokens_per_s", s.prefill.mean()}};
    if (score.texts < score.n) row["texts"] = score.texts;
    if (reference != nullptr) {
      const std::vector<Draw> both = pairs(s, *reference);
      const Interval kept = both.empty() ? Interval{} : ratio(both);
      if (kept.high > 0) row["retention"] = kept.value;
      if (kept.high > 0 && &s != reference) row["retention_interval"] = bounds(kept);
    }
    if (const Configuration* other = cell_beside(grid, cell, beside); other && sums.contains(other->name())) {
      const std::vector<Draw> both = pairs(s, sums[other->name()]);
      if (!both.empty()) {
        Interval more = difference(both);
        more.low = std::max(more.low, -1.0);
        more.high = std::min(more.high, 1.0);
        row["beside"] = {
            {"cell", other->name()}, {"samples", more.n}, {"difference", more.value}, {"interval", bounds(more)}};
      }
    }
    if (s.kl.n > 0) row["kl"] = s.kl.mean();
    if (s.same.n > 0) row["same"] = s.same.mean();
    if (s.decode_ms.n > 0) row["decode_ms"] = s.decode_ms.mean();
    if (s.has_tasks) {
      const Interval tasks = mean_of_strata(s.draws());
      row["task_mean"] = tasks.value;
      row["task_mean_interval"] = bounds(tasks);
    }
    for (const auto& [text, group] : s.groups) {
      const Interval in_group = mean(group.second);
      row["groups"].push_back(
          {{"tags", group.first}, {"samples", in_group.n}, {"score", in_group.value}, {"interval", bounds(in_group)}});
    }
    for (const auto& [number, asked] : s.questions) {
      const Interval of_question = mean(asked);
      row["questions"].push_back({{"question", number},
                                  {"samples", of_question.n},
                                  {"score", of_question.value},
                                  {"interval", bounds(of_question)}});
    }
    cells.push_back(std::move(row));
  }
  return {{"schema", 2}, {"task", task}, {"cells", cells}};
}

}  // namespace lacake::eval
