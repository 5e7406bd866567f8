#include "eval_picture.h"

#include <fmt/format.h>

#include <memory>

#include "lacake/error.h"

#ifdef LACAKE_CAIRO
#include <cairo.h>
#endif

namespace lacake::cli {

#ifndef LACAKE_CAIRO

std::string png(const eval::Drawing&) { return {}; }

#else

namespace {

constexpr double kScale = 2;

void set_color(cairo_t* cairo, const std::string& color) {
  const unsigned long rgb = std::stoul(color.substr(1), nullptr, 16);
  const auto part = [&](int shift) { return (double)(rgb >> shift & 255) / 255; };
  cairo_set_source_rgb(cairo, part(16), part(8), part(0));
}

void draw(cairo_t* cairo, const eval::Drawing& drawing) {
  cairo_set_source_rgb(cairo, 1, 1, 1);
  cairo_paint(cairo);
  for (const auto& box : drawing.boxes) {
    set_color(cairo, box.color);
    cairo_rectangle(cairo, box.x, box.y, box.width, box.height);
    cairo_fill(cairo);
  }
  for (const auto& line : drawing.lines) {
    set_color(cairo, line.color);
    cairo_set_line_width(cairo, line.width);
    for (const auto& [x, y] : line.points) cairo_line_to(cairo, x, y);
    cairo_stroke(cairo);
  }
  for (const auto& text : drawing.texts) {
    set_color(cairo, text.color);
    cairo_select_font_face(cairo, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           text.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cairo, text.size);
    cairo_text_extents_t extents;
    cairo_text_extents(cairo, text.text.c_str(), &extents);
    using Align = eval::Drawing::Align;
    const double share = text.align == Align::kLeft ? 0 : text.align == Align::kCenter ? 0.5 : 1;
    cairo_move_to(cairo, text.x - share * extents.x_advance, text.y);
    cairo_show_text(cairo, text.text.c_str());
  }
}

cairo_status_t append(void* bytes, const unsigned char* data, unsigned int length) {
  static_cast<std::string*>(bytes)->append(reinterpret_cast<const char*>(data), length);
  return CAIRO_STATUS_SUCCESS;
}

}  // namespace

std::string png(const eval::Drawing& drawing) {
  const std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)> surface(
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(drawing.width * kScale), (int)(drawing.height * kScale)),
      cairo_surface_destroy);
  cairo_surface_set_device_scale(surface.get(), kScale, kScale);
  const std::unique_ptr<cairo_t, void (*)(cairo_t*)> cairo(cairo_create(surface.get()), cairo_destroy);
  draw(cairo.get(), drawing);
  std::string bytes;
  const cairo_status_t status = cairo_surface_write_to_png_stream(surface.get(), append, &bytes);
  if (status != CAIRO_STATUS_SUCCESS) {
    throw Error(
        {.subject = "the heat map", .found = fmt::format("cannot be drawn: {}", cairo_status_to_string(status))});
  }
  return bytes;
}

#endif

}  // namespace lacake::cli
