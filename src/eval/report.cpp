#include "eval/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "eval/charts.h"
#include "lacake/budget.h"
#include "lacake/error.h"

namespace lacake::eval {
namespace {

using nlohmann::json;

constexpr const char* kStyle = R"(
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #21282f; background: #fff; margin: 2.5rem auto; max-width: 1120px; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, dl { color: #47515b; max-width: 75ch; } dt { float: left; clear: left; width: 9.5rem; color: #6b7580; } dd { margin: 0 0 0 10rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #e3e7eb; white-space: nowrap; }
th { font-weight: 600; color: #47515b; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.best td { background: #eef5fb; } tbody tr:hover td { background: #f6f8fa; }
)";

std::string value_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? "-" : value.dump();
}

struct Column {
  std::string head;
  std::string hint;
  std::string (*text)(const json& cell);  // "" where the cell has no such figure
};

std::string number(const json& cell, const char* key, const char* format, double factor = 1) {
  return cell.contains(key) ? fmt::format(fmt::runtime(format), factor * cell[key].get<double>()) : "";
}

// "71.2 to 88.0"
std::string bounds_text(const json& cell, const char* key, const char* format, double factor) {
  if (!cell.contains(key)) return "";
  const auto bound = [&](std::size_t i) {
    return fmt::format(fmt::runtime(format), factor * cell[key].at(i).get<double>());
  };
  return bound(0) + " to " + bound(1);
}

std::string ratio_text(const json& ratio) {
  return fmt::format("{:.3f} ({})", ratio.at("ratio").get<double>(), bounds_text(ratio, "interval", "{:.3f}", 1));
}

const std::vector<Column>& columns() {
  static const std::vector<Column> all = {
      {"perplexity", "exp of the mean surprise", [](const json& c) { return number(c, "perplexity", "{:.4f}"); }},
      {"±", "standard error", [](const json& c) { return number(c, "standard_error", "{:.4f}"); }},
      {"to full", "perplexity to the full cache's, and the 95 % interval of that",
       [](const json& c) { return c.contains("ratio") ? ratio_text(c["ratio"]) : ""; }},
      {"score", "mean over samples", [](const json& c) { return number(c, "score", "{:.1f} %", 100); }},
      {"95 %", "interval of the score",
       [](const json& c) { return c.contains("score") ? bounds_text(c, "interval", "{:.1f}", 100) : ""; }},
      {"of full", "share of the full cache's score",
       [](const json& c) { return number(c, "retention", "{:.1f} %", 100); }},
      {"95 % of it", "interval of that share, sample by sample",
       [](const json& c) { return bounds_text(c, "retention_interval", "{:.1f}", 100); }},
      {"beside",
       "difference from (score) or factor to (perplexity) the cell named by beside, on the same samples, and "
       "its 95 % interval",
       beside_text},
      {"KL", "mean divergence from the full cache's next-token distributions, nats",
       [](const json& c) { return number(c, "kl", "{:.4f}"); }},
      {"equal tokens", "share with the full cache's likeliest token (answers: before the first that differs)",
       [](const json& c) { return number(c, "same", "{:.1f} %", 100); }},
      {"KV peak", "the most K and V bytes held",
       [](const json& c) { return bytes_text(c.at("kv").at("peak_bytes").get<std::uint64_t>()); }},
      {"of full KV", "held after the sample, of what a full cache holds",
       [](const json& c) {
         const auto& kv = c.at("kv");
         return fmt::format("{:.1f} %", 100 * kv.at("held_bytes").get<double>() / kv.at("full_bytes").get<double>());
       }},
      {"prefill t/s", "of the pass that all its cells share",
       [](const json& c) { return number(c, "pass_prefill_tokens_per_s", "{:.0f}"); }},
      {"decode ms", "a token, this cell alone", [](const json& c) { return number(c, "decode_ms", "{:.1f}"); }},
      {"n", "samples or tokens",
       [](const json& c) {
         return c.contains("tokens") ? number(c, "tokens", "{:.0f}") : number(c, "samples", "{:.0f}");
       }},
  };
  return all;
}

std::string table(const json& metrics) {
  std::vector<const Column*> shown;
  for (const Column& column : columns()) {
    const bool any = std::any_of(metrics.at("cells").begin(), metrics.at("cells").end(),
                                 [&](const json& cell) { return !column.text(cell).empty(); });
    if (any) shown.push_back(&column);
  }
  std::string out = "<div class=\"wide\"><table><thead><tr><th>policy and budget</th>";
  for (const Column* c : shown)
    out += fmt::format("<th title=\"{}\">{}</th>", draw::escaped(c->hint), draw::escaped(c->head));
  out += "</tr></thead><tbody>\n";
  for (const json& cell : metrics.at("cells")) {
    out += fmt::format("<tr><td>{}</td>", draw::escaped(value_text(cell.at("cell"))));
    for (const Column* c : shown) {
      const std::string text = c->text(cell);
      out += fmt::format("<td>{}</td>", text.empty() ? "–" : draw::escaped(text));
    }
    out += "</tr>\n";
  }
  out += "</tbody></table></div>\n<p>";
  for (const Column* c : shown) out += fmt::format("<b>{}</b>: {}. ", draw::escaped(c->head), draw::escaped(c->hint));
  return out + "</p>\n";
}

std::string small_table(const std::string& head, const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return "";
  std::string out = fmt::format(
      "<h2>{}</h2>\n<p>Mean score in percent, and its 95 % interval.</p>\n<div class=\"wide\"><table>", head);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const char* cell = r == 0 ? "th" : "td";
    out += r == 0 ? "<thead><tr>" : r == 1 ? "<tbody><tr>" : "<tr>";
    for (const std::string& text : rows[r]) out += fmt::format("<{0}>{1}</{0}>", cell, draw::escaped(text));
    out += r == 0 ? "</tr></thead>\n" : "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

// "50.0 (31.2 to 68.8)"
std::string score_text(const json& scored) {
  std::string text = number(scored, "score", "{:.1f}", 100);
  if (scored.contains("interval")) text += fmt::format(" ({})", bounds_text(scored, "interval", "{:.1f}", 100));
  return text;
}

std::optional<double> quality(const json& cell) {
  if (cell.contains("perplexity")) return cell["perplexity"].get<double>();
  if (cell.contains("score")) return 100 * cell["score"].get<double>();
  return {};
}

// One line a policy, over the bytes that it held at most: budgets of every kind on one axis.
std::string quality_by_budget(const json& metrics) {
  std::vector<Series> series;
  std::optional<double> full;
  double low = INFINITY, high = 0;
  for (const json& cell : metrics.at("cells")) {
    const auto y = quality(cell);
    if (!y) continue;
    const double x = cell.at("kv").at("peak_bytes").get<double>() / (1 << 20);
    if (cell.at("budget").is_null()) {
      if (cell.at("policy") == "full") full = y;
      continue;
    }
    low = std::min(low, x), high = std::max(high, x);
    const std::string name = cell.at("policy");
    auto found = std::find_if(series.begin(), series.end(), [&](const Series& s) { return s.name == name; });
    if (found == series.end()) found = series.insert(series.end(), {name, {}});
    found->points.emplace_back(std::round(x * 100) / 100, *y);
  }
  if (series.empty()) return "";
  for (Series& s : series) std::sort(s.points.begin(), s.points.end());
  if (full) series.push_back({"full", {{std::round(low * 100) / 100, *full}, {std::round(high * 100) / 100, *full}}});
  const bool perplexity = metrics.at("task") == "perplexity";
  return "<h2>Quality against budget</h2>\n<div class=\"wide\">" +
         draw::svg(line_chart("KV held at most, MiB", perplexity ? "perplexity (lower is better)" : "score, %", series,
                              true)) +
         "</div>\n";
}

std::string by_position(const json& metrics) {
  std::vector<Series> series;
  for (const json& cell : metrics.at("cells")) {
    if (!cell.contains("windows") || cell["windows"].size() < 2) continue;
    Series s{cell.at("cell"), {}};
    for (const json& window : cell["windows"]) s.points.emplace_back(window.at("from"), window.at("perplexity"));
    series.push_back(std::move(s));
  }
  if (series.empty()) return "";
  return fmt::format(
      "<h2>Perplexity by position</h2>\n<p>Each point is over {} tokens.</p>\n<div class=\"wide\">{}</div>\n",
      metrics.at("window").get<std::size_t>(),
      draw::svg(line_chart("position, tokens", "perplexity (lower is better)", series, false)));
}

std::string maps(const json& metrics) {
  const auto all = heat_maps(metrics);
  if (all.empty()) return "";
  return "<h2>Length and depth</h2>\n<p>Mean score in percent; dark is found.</p>\n<div class=\"wide\">" +
         draw::svg(heat_map_drawing(all)) + "</div>\n";
}

std::string facts(const json& config) {
  std::string out = "<dl>";
  const json& meaning = config.at("meaning");
  for (const auto& [key, value] : meaning.items()) {
    if (key == "task" || key == "model") continue;
    out += fmt::format("<dt>{}</dt><dd>{}</dd>", draw::escaped(key), draw::escaped(value_text(value)));
  }
  const json grid = config.value("grid", json::object());
  for (const auto& [key, value] : grid.items()) {
    if (key != "cells")
      out += fmt::format("<dt>{}</dt><dd>{}</dd>", draw::escaped(key), draw::escaped(value_text(value)));
  }
  return out + "</dl>\n";
}

}  // namespace

std::string report_html(const json& config, const json& metrics) {
  const json& model = config.at("meaning").at("model");
  const std::string task = metrics.at("task");
  const std::string name =
      model.value("name", "").empty() ? value_text(model.at("file")) : value_text(model.at("name"));
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>lacake eval {0}: {1}</title><style>{2}</style></head><body>\n"
      "<h1>{0}: {1}</h1>\n<p>{3}, {4}</p>\n{5}<h2>All cells</h2>\n{6}{7}{8}{9}{10}</body></html>\n",
      draw::escaped(task), draw::escaped(name), kStyle, draw::escaped(value_text(model.at("file"))),
      draw::escaped(value_text(model.at("weight_types"))), facts(config), table(metrics),
      small_table("Scores by task", scores_by_task(metrics)) +
          small_table("Scores by question", scores_by_question(metrics)),
      quality_by_budget(metrics), by_position(metrics), maps(metrics));
}

std::string beside_text(const json& cell) {
  if (!cell.contains("beside")) return "";
  const json& beside = cell["beside"];
  if (beside.contains("ratio")) return ratio_text(beside);
  return fmt::format("{:+.1f} ({})", 100 * beside.at("difference").get<double>(),
                     bounds_text(beside, "interval", "{:+.1f}", 100));
}

std::string interval_text(const json& cell, const char* key) { return bounds_text(cell, key, "{:.1f}", 100); }

std::vector<std::vector<std::string>> scores_by_task(const json& metrics) {
  std::vector<std::vector<std::string>> rows = {{"task"}};
  std::map<std::string, std::size_t> row_of;
  const json none = json::array();
  const auto row = [&](const std::string& name, std::size_t column) -> std::string& {
    if (const auto [found, added] = row_of.emplace(name, rows.size()); added) rows.push_back({name});
    auto& texts = rows[row_of[name]];
    texts.resize(std::max(texts.size(), column + 1), "-");
    return texts[column];
  };
  for (const json& cell : metrics.at("cells")) {
    if (!cell.contains("task_mean")) continue;
    const std::size_t column = rows[0].size();
    rows[0].push_back(cell.at("cell"));
    for (const json& group : cell.value("groups", none)) {
      std::string name = value_text(group.at("tags").at("task"));
      for (const auto& [key, value] : group.at("tags").items()) {
        if (key != "task") name += fmt::format(", {} {}", key, value_text(value));
      }
      row(name, column) = score_text(group);
    }
  }
  if (rows.size() == 1) return {};
  std::size_t column = 0;
  for (const json& cell : metrics.at("cells")) {
    if (!cell.contains("task_mean")) continue;
    row("mean of tasks", ++column) =
        score_text({{"score", cell["task_mean"]}, {"interval", cell.at("task_mean_interval")}});
  }
  for (auto& texts : rows) texts.resize(rows[0].size(), "-");
  return rows;
}

std::vector<std::vector<std::string>> scores_by_question(const json& metrics) {
  std::vector<std::vector<std::string>> rows = {{"question"}};
  for (const json& cell : metrics.at("cells")) {
    if (!cell.contains("questions")) continue;
    const std::size_t column = rows[0].size();
    rows[0].push_back(cell.at("cell"));
    for (const json& question : cell["questions"]) {
      const std::size_t number = question.at("question");
      while (rows.size() <= number) rows.push_back({std::to_string(rows.size())});
      rows[number].resize(std::max(rows[number].size(), column + 1), "-");
      rows[number][column] = score_text(question);
    }
  }
  if (rows.size() == 1) return {};
  for (auto& texts : rows) texts.resize(rows[0].size(), "-");
  return rows;
}

std::vector<std::vector<std::string>> comparison(const json& a, const json& b) {
  if (a.at("task") != b.at("task")) {
    throw Error({.subject = "the two results",
                 .expected = "results of one task",
                 .found = fmt::format("{} and {}", value_text(a["task"]), value_text(b["task"]))});
  }
  const bool perplexity = a["task"] == "perplexity";
  std::vector<std::vector<std::string>> rows = {
      {"policy and budget", perplexity ? "perplexity A" : "score A", "B", "difference", "KL A", "B", "KV peak A", "B"}};
  std::vector<std::string> names;
  std::map<std::string, const json*> of_a, of_b;
  const auto collect = [&](const json& metrics, std::map<std::string, const json*>& into) {
    for (const json& cell : metrics.at("cells")) {
      const std::string name = cell.at("cell");
      if (!of_a.contains(name) && !of_b.contains(name)) names.push_back(name);
      into[name] = &cell;
    }
  };
  collect(a, of_a);
  collect(b, of_b);
  for (const std::string& name : names) {
    const json* const both[] = {of_a.contains(name) ? of_a[name] : nullptr, of_b.contains(name) ? of_b[name] : nullptr};
    std::optional<double> q[2];
    std::string kl[2] = {"-", "-"}, kv[2] = {"-", "-"};
    for (int i = 0; i < 2; ++i) {
      if (!both[i]) continue;
      q[i] = quality(*both[i]);
      if (both[i]->contains("kl")) kl[i] = number(*both[i], "kl", "{:.4f}");
      kv[i] = bytes_text(both[i]->at("kv").at("peak_bytes").get<std::uint64_t>());
    }
    const auto text = [](const std::optional<double>& x) { return x ? fmt::format("{:.3f}", *x) : std::string("-"); };
    rows.push_back({name, text(q[0]), text(q[1]), q[0] && q[1] ? fmt::format("{:+.3f}", *q[1] - *q[0]) : "-", kl[0],
                    kl[1], kv[0], kv[1]});
  }
  return rows;
}

}  // namespace lacake::eval
