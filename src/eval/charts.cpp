#include "eval/charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

namespace lacake::eval {
namespace {

const std::string kInk = "#21282f";
const std::string kFaint = "#6b7580";
const std::string kRule = "#e3e7eb";

// Nothing found is pale, everything found dark: one hue, readable without colour vision and in print.
std::string shade(double score) {
  constexpr std::array<std::array<double, 3>, 4> kStops = {
      {{246, 235, 225}, {199, 219, 234}, {84, 148, 196}, {12, 66, 122}}};
  const double at = std::clamp(score, 0.0, 1.0) * (kStops.size() - 1);
  const auto i = std::min((std::size_t)at, kStops.size() - 2);
  const double t = at - (double)i;
  const auto mix = [&](std::size_t c) { return (int)std::lround(kStops[i][c] * (1 - t) + kStops[i + 1][c] * t); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2));
}

std::string length_text(std::size_t n) {
  return n >= 1024 && n % 512 == 0 ? fmt::format("{:g}K", (double)n / 1024) : fmt::format("{}", n);
}

std::string color(std::size_t i) {
  constexpr std::array kColors = {"#1f5fa8", "#d9730d", "#2f8f5b", "#b8336a", "#6b4fb3", "#8a6d1f",
                                  "#2aa1b3", "#7a7f86", "#c0392b", "#3d3d3d", "#9bbf2f", "#e58fb6"};
  return kColors[i % kColors.size()];
}

// A step of 1, 2 or 5 times a power of ten, for about `n` ticks.
double tick_step(double range, int n) {
  const double raw = range / n, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double m : {1.0, 2.0, 5.0}) {
    if (m * power >= raw) return m * power;
  }
  return 10 * power;
}

}  // namespace

std::vector<HeatMap> heat_maps(const nlohmann::json& metrics) {
  std::vector<HeatMap> maps;
  for (const auto& cell : metrics.at("cells")) {
    std::set<std::size_t> lengths;
    std::set<int> depths;
    std::map<std::pair<int, std::size_t>, double> scores;
    for (const auto& group : cell.value("groups", nlohmann::json::array())) {
      const auto& tags = group.at("tags");
      if (!tags.contains("length") || !tags.contains("depth")) continue;
      lengths.insert(tags["length"].get<std::size_t>());
      depths.insert(tags["depth"].get<int>());
      scores[{tags["depth"].get<int>(), tags["length"].get<std::size_t>()}] = group.at("score");
    }
    if (scores.empty()) continue;
    HeatMap map{cell.at("cell"), {lengths.begin(), lengths.end()}, {depths.begin(), depths.end()}, {}};
    for (const int depth : map.depths) {
      auto& row = map.scores.emplace_back();
      for (const std::size_t length : map.lengths) {
        const auto found = scores.find({depth, length});
        row.push_back(found == scores.end() ? -1 : found->second);
      }
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

draw::Drawing heat_map_drawing(const std::vector<HeatMap>& maps) {
  constexpr double kBox = 34, kRow = 20, kLeft = 52, kTop = 44, kGap = 28;
  draw::Drawing d;
  double widest = 0, tallest = 0;
  for (const HeatMap& map : maps) {
    widest = std::max({widest, kLeft + kBox * (double)map.lengths.size(), 7.2 * (double)map.title.size()});
    tallest = std::max(tallest, kTop + kRow * (double)map.depths.size() + 24);
  }
  const auto columns = (std::size_t)std::max(1.0, std::floor(1060 / (widest + kGap)));
  // A policy of several budgets begins a row of its own.
  const auto policy = [&](std::size_t m) { return maps[m].title.substr(0, maps[m].title.rfind(" @ ")); };
  const auto begins = [&](std::size_t m) {
    return m + 1 < maps.size() && policy(m) == policy(m + 1) && (m == 0 || policy(m) != policy(m - 1));
  };
  std::size_t row = 0, column = 0, most = 0;
  for (std::size_t m = 0; m < maps.size(); ++m, ++column) {
    if (column == columns || (column > 0 && begins(m))) ++row, column = 0;
    most = std::max(most, column + 1);
    const HeatMap& map = maps[m];
    const double x = 10 + (double)column * (widest + kGap), y = 10 + (double)row * (tallest + kGap);
    d.texts.push_back({x, y + 14, 12, map.title, kInk, draw::Drawing::Align::kLeft, true});
    d.texts.push_back({x + kLeft - 6, y + kTop - 8, 10, "depth", kFaint, draw::Drawing::Align::kRight});
    for (std::size_t c = 0; c < map.lengths.size(); ++c) {
      d.texts.push_back({x + kLeft + kBox * ((double)c + 0.5), y + kTop - 8, 10, length_text(map.lengths[c]), kFaint,
                         draw::Drawing::Align::kCenter});
    }
    for (std::size_t r = 0; r < map.depths.size(); ++r) {
      const double top = y + kTop + kRow * (double)r;
      d.texts.push_back(
          {x + kLeft - 6, top + 14, 10, fmt::format("{} %", map.depths[r]), kFaint, draw::Drawing::Align::kRight});
      for (std::size_t c = 0; c < map.lengths.size(); ++c) {
        const double score = map.scores[r][c];
        if (score < 0) continue;
        d.boxes.push_back({x + kLeft + kBox * (double)c, top, kBox - 1, kRow - 1, shade(score),
                           fmt::format("{}: length {}, depth {} %: {:.0f} %", map.title, map.lengths[c], map.depths[r],
                                       100 * score)});
        d.texts.push_back({x + kLeft + kBox * ((double)c + 0.5) - 0.5, top + 13.5, 9.5,
                           fmt::format("{:.0f}", 100 * score), score > 0.55 ? "#ffffff" : kInk,
                           draw::Drawing::Align::kCenter});
      }
    }
  }
  d.width = 20 + (double)most * (widest + kGap);
  d.height = 10 + (double)(row + 1) * (tallest + kGap);
  return d;
}

std::string heat_map_text(const HeatMap& map, bool utf8) {
  std::string text = map.title + "\n";
  for (std::size_t r = 0; r < map.depths.size(); ++r) {
    text += fmt::format("  {:>4} % ", map.depths[r]);
    for (const double score : map.scores[r]) {
      if (score < 0) {
        text += "     ";
      } else if (utf8) {
        constexpr std::array kBlocks = {"░", "▒", "▓", "█"};
        const std::string block = kBlocks[std::min<std::size_t>((std::size_t)(score * 4), 3)];
        text += block + block + block + block + " ";
      } else {
        text += fmt::format("{:>4} ", std::lround(100 * score));
      }
    }
    text += "\n";
  }
  text += "  length ";
  for (const std::size_t length : map.lengths) text += fmt::format("{:<5}", length_text(length));
  return text + "\n";
}

draw::Drawing line_chart(const std::string& x_label, const std::string& y_label, const std::vector<Series>& series,
                         bool log_x) {
  constexpr double kLeft = 64, kTop = 30, kWidth = 640, kHeight = 300;
  draw::Drawing d;
  d.width = kLeft + kWidth + 330;
  double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
  std::set<double> xs;
  for (const Series& s : series) {
    for (const auto& [x, y] : s.points) {
      x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
      xs.insert(x);
    }
  }
  if (!(x0 <= x1)) return d;
  if (y1 - y0 < 1e-9) y0 -= 0.5, y1 += 0.5;
  const double step = tick_step(y1 - y0, 5);
  y0 = std::floor(y0 / step) * step, y1 = std::ceil(y1 / step) * step;
  const auto scale = [&](double x) { return log_x ? std::log(x) : x; };
  const double span = std::max(scale(x1) - scale(x0), 1e-9);
  const auto px = [&](double x) { return kLeft + 10 + (kWidth - 20) * (scale(x) - scale(x0)) / span; };
  const auto py = [&](double y) { return kTop + kHeight * (1 - (y - y0) / (y1 - y0)); };
  for (double y = y0; y <= y1 + step / 2; y += step) {
    d.lines.push_back({{{kLeft, py(y)}, {kLeft + kWidth, py(y)}}, kRule, 1});
    d.texts.push_back({kLeft - 8, py(y) + 4, 11, fmt::format("{:g}", std::round(y * 1e6) / 1e6), kFaint,
                       draw::Drawing::Align::kRight});
  }
  const auto label_x = [&](double x) {
    d.texts.push_back({px(x), kTop + kHeight + 18, 11, fmt::format("{:g}", x), kFaint, draw::Drawing::Align::kCenter});
  };
  if (xs.size() <= 9) {
    for (const double x : xs) label_x(x);
  } else {
    const double every = tick_step(x1 - x0, 8);
    for (double x = std::ceil(x0 / every) * every; x <= x1; x += every) label_x(x);
  }
  d.texts.push_back({kLeft, 16, 12, y_label, kInk});
  d.texts.push_back({kLeft + kWidth, kTop + kHeight + 38, 12, x_label, kInk, draw::Drawing::Align::kRight});
  for (std::size_t i = 0; i < series.size(); ++i) {
    draw::Drawing::Line line{{}, color(i), 2};
    for (const auto& [x, y] : series[i].points) {
      line.points.emplace_back(px(x), py(y));
      if (series[i].points.size() <= 16) {
        d.boxes.push_back(
            {px(x) - 3, py(y) - 3, 6, 6, color(i), fmt::format("{}: {:g}, {:.4g}", series[i].name, x, y)});
      }
    }
    d.lines.push_back(std::move(line));
    const double y = kTop + 8 + 18 * (double)i;
    d.boxes.push_back({kLeft + kWidth + 20, y - 4, 14, 4, color(i), ""});
    d.texts.push_back({kLeft + kWidth + 40, y + 2, 11.5, series[i].name, kInk});
  }
  d.height = std::max(kTop + kHeight + 50, kTop + 30 + 18 * (double)series.size());
  return d;
}

}  // namespace lacake::eval
