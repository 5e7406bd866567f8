#include "kept_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace lacake::cli {
namespace {

using draw::Drawing;
using Align = Drawing::Align;

constexpr const char* kInk = "#212933";
constexpr const char* kFaint = "#6b7582";
constexpr const char* kNothing = "#f4f5f7";

struct Color {
  double red, green, blue;
};

// From a little to everything: one hue, evenly darker, readable without colour vision and in print.
constexpr std::array<Color, 5> kRamp = {{
    {0.80, 0.88, 0.94},
    {0.55, 0.75, 0.87},
    {0.25, 0.55, 0.76},
    {0.08, 0.34, 0.58},
    {0.03, 0.15, 0.36},
}};

// Small shares are where policies differ, so shades follow the square root; the legend shows it.
constexpr int kLevels = 48;
int level(double share) { return share <= 0 ? 0 : 1 + (int)(std::sqrt(std::min(share, 1.0)) * (kLevels - 1)); }

std::string level_color(int level) {
  if (level == 0) return kNothing;
  const double at = (double)(level - 1) / (kLevels - 1) * (kRamp.size() - 1);
  const auto i = std::min((std::size_t)at, kRamp.size() - 2);
  const double t = at - (double)i;
  const auto mix = [&](double Color::*part) {
    return (int)std::lround(255 * (kRamp[i].*part * (1 - t) + kRamp[i + 1].*part * t));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(&Color::red), mix(&Color::green), mix(&Color::blue));
}

//   title, what was done
//          +--------------------------------+  entries
//   layer  |  rows of shades                |  ===== 512
//          +--------------------------------+  == 210
//          0     1000      2000
//          position                    legend
struct Layout {
  explicit Layout(std::size_t n_layers)
      : row(std::clamp(std::floor(620.0 / (double)(std::max<std::size_t>(n_layers, 1))), 5.0, 28.0)),
        map_height(row * (double)n_layers),
        height(top + map_height + 86) {}

  static constexpr double left = 64;
  static constexpr double top = 104;
  static constexpr double map_width = 896;
  static constexpr double bars = left + map_width + 20;
  static constexpr double bar_width = 96;
  static constexpr double width = bars + bar_width + 70;
  double row;
  double map_height;
  double height;
};

void draw_map(Drawing& to, const Layout& layout, const Kept& kept) {
  constexpr std::size_t kBuckets = 224;  // of 4 pixels
  // Small gaps tell layers apart; without room for them, layers touch.
  const double gap = layout.row >= 12 ? 2 : layout.row >= 8 ? 1 : 0;
  // By shade, so that an SVG has one path for each.
  std::vector<std::vector<Drawing::Box>> boxes(kLevels + 1);
  for (std::size_t layer = 0; layer < kept.layers.size(); ++layer) {
    const auto shares = draw::density(kept.layers[layer], kept.n_tokens, kBuckets);
    const double step = Layout::map_width / (double)(std::max<std::size_t>(shares.size(), 1));
    for (std::size_t begin = 0, end = 0; begin < shares.size(); begin = end) {
      const int shade = level(shares[begin]);
      while (end < shares.size() && level(shares[end]) == shade) ++end;
      boxes[(std::size_t)shade].push_back({Layout::left + step * (double)begin,
                                           Layout::top + layout.row * (double)layer, step * (double)(end - begin),
                                           layout.row - gap, level_color(shade), ""});
    }
  }
  for (const auto& of_shade : boxes) to.boxes.insert(to.boxes.end(), of_shade.begin(), of_shade.end());
}

void draw_layers(Drawing& to, const Layout& layout, const Kept& kept) {
  double largest = 1;
  for (const auto& heads : kept.layers) largest = std::max(largest, mean_entries(heads));
  const std::size_t every = draw::round_step(kept.layers.size(), (std::size_t)(layout.map_height / 13));
  const double size = std::min(11.0, layout.row * (double)every - 1);
  const double gap = layout.row >= 8 ? layout.row * 0.3 : 1;
  for (std::size_t layer = 0; layer < kept.layers.size(); ++layer) {
    const double y = Layout::top + layout.row * (double)layer;
    const double baseline = y + layout.row / 2 + size * 0.32;
    const double entries = mean_entries(kept.layers[layer]);
    const double bar = Layout::bar_width * entries / largest;
    to.boxes.push_back({Layout::bars, y + gap / 2, bar, layout.row - gap, level_color(kLevels * 6 / 10), ""});
    if (layer % every != 0) continue;
    to.texts.push_back({Layout::left - 8, baseline, size, fmt::format("{}", layer), kFaint, Align::kRight});
    to.texts.push_back({Layout::bars + bar + 6, baseline, size, fmt::format("{:.0f}", entries), kFaint});
  }
  to.texts.push_back({Layout::left - 8, Layout::top - 10, 12, "layer", kInk, Align::kRight});
  to.texts.push_back({Layout::bars, Layout::top - 10, 12, "entries a head", kInk});
}

void draw_axis(Drawing& to, const Layout& layout, const Kept& kept) {
  const double y = Layout::top + layout.map_height + 3;
  const std::size_t step = draw::round_step(std::max<std::size_t>(kept.n_tokens, 1), 12);
  for (std::size_t position = 0; position < kept.n_tokens; position += step) {
    const double x = Layout::left + Layout::map_width * (double)position / (double)kept.n_tokens;
    to.lines.push_back({{{x + 0.5, y}, {x + 0.5, y + 5}}, kFaint});
    to.texts.push_back({x, y + 19, 11, fmt::format("{}", position), kFaint, Align::kCenter});
  }
  to.texts.push_back({Layout::left, y + 48, 12, "position in the conversation, in tokens", kInk});
}

void draw_legend(Drawing& to, const Layout& layout) {
  constexpr double kWidth = 260;
  const double x = Layout::left + Layout::map_width - kWidth;
  const double y = Layout::top + layout.map_height + 39;
  to.texts.push_back({x - 36, y + 11, 12, "share kept", kInk, Align::kRight});
  to.boxes.push_back({x - 24, y, 16, 14, kNothing, ""});
  for (int shade = 1; shade <= kLevels; ++shade) {
    to.boxes.push_back({x + kWidth * (shade - 1) / kLevels, y, kWidth / kLevels + 0.5, 14, level_color(shade), ""});
  }
  to.texts.push_back({x - 16, y + 28, 11, "0", kFaint, Align::kCenter});
  for (const double share : {0.01, 0.1, 0.25, 0.5, 1.0}) {
    const double at = x + kWidth * std::sqrt(share);
    to.lines.push_back({{{at, y + 14}, {at, y + 17}}, kFaint});
    to.texts.push_back({at, y + 28, 11, fmt::format("{:g}%", share * 100), kFaint, Align::kCenter});
  }
}

}  // namespace

draw::Drawing kept_drawing(const Kept& kept) {
  const Layout layout(kept.layers.size());
  Drawing to{.width = Layout::width, .height = layout.height};
  const std::size_t n_heads = kept.layers.empty() ? 0 : kept.layers[0].size();
  to.texts.push_back({Layout::left, 38, 20, "What each layer keeps", kInk, Align::kLeft, true});
  const std::string done = fmt::format("{}  ·  {}  ·  {} tokens  ·  mean of {} KV head{}", kept.model, kept.policy,
                                       kept.n_tokens, n_heads, n_heads == 1 ? "" : "s");
  // A character is at most about so much of a font's size wide: a long line is written smaller.
  constexpr double kWidest = 0.62;
  const double fits = (Layout::width - 2 * Layout::left) / (kWidest * (double)done.size());
  to.texts.push_back({Layout::left, 62, std::min(13.0, fits), done, kFaint});
  draw_map(to, layout, kept);
  draw_layers(to, layout, kept);
  draw_axis(to, layout, kept);
  draw_legend(to, layout);
  return to;
}

}  // namespace lacake::cli
