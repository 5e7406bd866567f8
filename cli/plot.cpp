#include "plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>

#include "lacake/error.h"

#ifdef LACAKE_CAIRO
#include <cairo-svg.h>
#include <cairo.h>
#endif

namespace lacake::cli {
namespace {

std::string extension(const std::string& path) { return std::filesystem::path(path).extension().string(); }

}  // namespace

void require_plot_name(const std::string& path, std::string_view flag) {
  if (extension(path) != ".svg" && extension(path) != ".png") {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = std::string(flag),
                 .expected = "a file name that ends in .svg or .png",
                 .found = fmt::format("\"{}\"", path)});
  }
#ifndef LACAKE_CAIRO
  throw Error({.kind = Error::Kind::kUsage,
               .subject = std::string(flag),
               .found = "this lacake was built without cairo, which draws pictures"});
#endif
}

#ifndef LACAKE_CAIRO

std::string plot(const Kept&, const std::string&) { return {}; }

#else

namespace {

struct Color {
  double red, green, blue;
};

constexpr Color kInk = {0.13, 0.16, 0.20};
constexpr Color kFaint = {0.42, 0.46, 0.51};
constexpr Color kNothing = {0.955, 0.96, 0.968};

// From a little to everything: one hue, evenly darker, readable without colour vision and in print.
constexpr std::array<Color, 5> kShades = {{
    {0.80, 0.88, 0.94},
    {0.55, 0.75, 0.87},
    {0.25, 0.55, 0.76},
    {0.08, 0.34, 0.58},
    {0.03, 0.15, 0.36},
}};

// Small shares are where policies differ, so shades follow the square root; the legend shows it.
constexpr int kLevels = 48;
int level(double share) { return share <= 0 ? 0 : 1 + (int)(std::sqrt(std::min(share, 1.0)) * (kLevels - 1)); }

Color level_color(int level) {
  if (level == 0) return kNothing;
  const double at = (double)(level - 1) / (kLevels - 1) * (kShades.size() - 1);
  const auto i = std::min((std::size_t)at, kShades.size() - 2);
  const double t = at - (double)i;
  const auto mix = [&](double Color::*part) { return kShades[i].*part * (1 - t) + kShades[i + 1].*part * t; };
  return {mix(&Color::red), mix(&Color::green), mix(&Color::blue)};
}

enum class Align { kLeft, kCenter, kRight };

class Canvas {
 public:
  explicit Canvas(cairo_surface_t* surface) : cairo_(cairo_create(surface)) { cairo_set_line_width(cairo_, 1); }
  ~Canvas() { cairo_destroy(cairo_); }
  Canvas(const Canvas&) = delete;
  Canvas& operator=(const Canvas&) = delete;

  void color(Color c) { cairo_set_source_rgb(cairo_, c.red, c.green, c.blue); }
  void box(double x, double y, double width, double height) { cairo_rectangle(cairo_, x, y, width, height); }
  void fill() { cairo_fill(cairo_); }
  void line(double x0, double y0, double x1, double y1) {
    cairo_move_to(cairo_, x0, y0);
    cairo_line_to(cairo_, x1, y1);
    cairo_stroke(cairo_);
  }

  // y: the baseline. Text wider than `most` is drawn smaller.
  void text(double x, double y, double size, const std::string& text, Align align = Align::kLeft, bool bold = false,
            double most = 1e9) {
    cairo_select_font_face(cairo_, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo_, size);
    cairo_text_extents_t extents;
    cairo_text_extents(cairo_, text.c_str(), &extents);
    if (extents.x_advance > most) {
      cairo_set_font_size(cairo_, size * most / extents.x_advance);
      cairo_text_extents(cairo_, text.c_str(), &extents);
    }
    const double share = align == Align::kLeft ? 0 : align == Align::kCenter ? 0.5 : 1;
    cairo_move_to(cairo_, x - extents.x_advance * share, y);
    cairo_show_text(cairo_, text.c_str());
  }

 private:
  cairo_t* cairo_;
};

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

void draw_map(Canvas& canvas, const Layout& layout, const Kept& kept) {
  constexpr std::size_t kBuckets = 224;  // of 4 pixels
  // Small gaps tell layers apart; without room for them, layers touch.
  const double gap = layout.row >= 12 ? 2 : layout.row >= 8 ? 1 : 0;
  // One path for each shade keeps the SVG small.
  std::vector<std::vector<std::array<double, 4>>> boxes(kLevels + 1);
  for (std::size_t layer = 0; layer < kept.layers.size(); ++layer) {
    const auto shares = draw::density(kept.layers[layer], kept.n_tokens, kBuckets);
    const double step = Layout::map_width / (double)(std::max<std::size_t>(shares.size(), 1));
    for (std::size_t begin = 0, end = 0; begin < shares.size(); begin = end) {
      const int shade = level(shares[begin]);
      while (end < shares.size() && level(shares[end]) == shade) ++end;
      boxes[(std::size_t)shade].push_back({Layout::left + step * (double)begin,
                                           Layout::top + layout.row * (double)layer, step * (double)(end - begin),
                                           layout.row - gap});
    }
  }
  for (int shade = 0; shade <= kLevels; ++shade) {
    canvas.color(level_color(shade));
    for (const auto& [x, y, width, height] : boxes[(std::size_t)shade]) canvas.box(x, y, width, height);
    canvas.fill();
  }
}

void draw_layers(Canvas& canvas, const Layout& layout, const Kept& kept) {
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
    canvas.color(level_color(kLevels * 6 / 10));
    canvas.box(Layout::bars, y + gap / 2, bar, layout.row - gap);
    canvas.fill();
    if (layer % every != 0) continue;
    canvas.color(kFaint);
    canvas.text(Layout::left - 8, baseline, size, fmt::format("{}", layer), Align::kRight);
    canvas.text(Layout::bars + bar + 6, baseline, size, fmt::format("{:.6g}", std::round(entries * 10) / 10));
  }
  canvas.color(kInk);
  canvas.text(Layout::left - 8, Layout::top - 10, 12, "layer", Align::kRight);
  canvas.text(Layout::bars, Layout::top - 10, 12, "entries a head");
}

void draw_axis(Canvas& canvas, const Layout& layout, const Kept& kept) {
  const double y = Layout::top + layout.map_height + 3;
  const std::size_t step = draw::round_step(std::max<std::size_t>(kept.n_tokens, 1), 12);
  for (std::size_t position = 0; position < kept.n_tokens; position += step) {
    const double x = Layout::left + Layout::map_width * (double)position / (double)kept.n_tokens;
    canvas.color(kFaint);
    canvas.line(x + 0.5, y, x + 0.5, y + 5);
    canvas.text(x, y + 19, 11, fmt::format("{}", position), Align::kCenter);
  }
  canvas.color(kInk);
  canvas.text(Layout::left, y + 48, 12, "position in the conversation, in tokens");
}

void draw_legend(Canvas& canvas, const Layout& layout) {
  constexpr double kWidth = 260;
  const double x = Layout::left + Layout::map_width - kWidth;
  const double y = Layout::top + layout.map_height + 39;
  canvas.color(kInk);
  canvas.text(x - 36, y + 11, 12, "share kept", Align::kRight);
  canvas.color(kNothing);
  canvas.box(x - 24, y, 16, 14);
  canvas.fill();
  for (int shade = 1; shade <= kLevels; ++shade) {
    canvas.color(level_color(shade));
    canvas.box(x + kWidth * (shade - 1) / kLevels, y, kWidth / kLevels + 0.5, 14);
    canvas.fill();
  }
  canvas.color(kFaint);
  canvas.text(x - 16, y + 28, 11, "0", Align::kCenter);
  for (const double share : {0.01, 0.1, 0.25, 0.5, 1.0}) {
    const double at = x + kWidth * std::sqrt(share);
    canvas.line(at, y + 14, at, y + 17);
    canvas.text(at, y + 28, 11, fmt::format("{:g}%", share * 100), Align::kCenter);
  }
}

void draw_all(Canvas& canvas, const Layout& layout, const Kept& kept) {
  canvas.color({1, 1, 1});
  canvas.box(0, 0, Layout::width, layout.height);
  canvas.fill();
  std::size_t n_heads = kept.layers.empty() ? 0 : kept.layers[0].size();
  canvas.color(kInk);
  canvas.text(Layout::left, 38, 20, "What each layer keeps", Align::kLeft, true);
  canvas.color(kFaint);
  canvas.text(Layout::left, 62, 13,
              fmt::format("{}  ·  {}  ·  {} tokens  ·  mean of {} KV head{}", kept.model, kept.policy, kept.n_tokens,
                          n_heads, n_heads == 1 ? "" : "s"),
              Align::kLeft, false, Layout::width - 2 * Layout::left);
  draw_map(canvas, layout, kept);
  draw_layers(canvas, layout, kept);
  draw_axis(canvas, layout, kept);
  draw_legend(canvas, layout);
}

cairo_status_t append(void* bytes, const unsigned char* data, unsigned int length) {
  static_cast<std::string*>(bytes)->append(reinterpret_cast<const char*>(data), length);
  return CAIRO_STATUS_SUCCESS;
}

struct DestroySurface {
  void operator()(cairo_surface_t* surface) const { cairo_surface_destroy(surface); }
};
using Surface = std::unique_ptr<cairo_surface_t, DestroySurface>;

}  // namespace

std::string plot(const Kept& kept, const std::string& path) {
  const Layout layout(kept.layers.size());
  std::string bytes;
  cairo_status_t status = CAIRO_STATUS_SUCCESS;
  if (extension(path) == ".svg") {
    const Surface surface(cairo_svg_surface_create_for_stream(append, &bytes, Layout::width, layout.height));
    {
      Canvas canvas(surface.get());
      draw_all(canvas, layout, kept);
    }
    cairo_surface_finish(surface.get());
    status = cairo_surface_status(surface.get());
  } else {
    constexpr double kScale = 2;  // for dense screens
    const Surface surface(
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(Layout::width * kScale), (int)(layout.height * kScale)));
    cairo_surface_set_device_scale(surface.get(), kScale, kScale);
    {
      Canvas canvas(surface.get());
      draw_all(canvas, layout, kept);
    }
    status = cairo_surface_write_to_png_stream(surface.get(), append, &bytes);
  }
  if (status != CAIRO_STATUS_SUCCESS) {
    throw Error({.subject = path, .found = fmt::format("cannot be drawn: {}", cairo_status_to_string(status))});
  }
  return bytes;
}

#endif

}  // namespace lacake::cli
