#include "picture.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "lacake/error.h"

#ifdef LACAKE_CAIRO
#include <cairo.h>
#endif

namespace lacake::cli {
namespace {

std::string extension(const std::string& path) { return std::filesystem::path(path).extension().string(); }

}  // namespace

void require_picture_name(const std::string& path, std::string_view flag) {
  if (extension(path) != ".svg" && extension(path) != ".png") {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = std::string(flag),
                 .expected = "a file name that ends in .svg or .png",
                 .found = fmt::format("\"{}\"", path)});
  }
#ifndef LACAKE_CAIRO
  if (extension(path) == ".svg") return;
  throw Error(
      {.kind = Error::Kind::kUsage,
       .subject = std::string(flag),
       .expected = "a file name that ends in .svg, because this lacake was built without cairo, which makes PNG",
       .found = fmt::format("\"{}\"", path)});
#endif
}

std::string picture(const draw::Drawing& drawing, const std::string& path) {
  return extension(path) == ".svg" ? draw::svg(drawing) : png(drawing);
}

#ifndef LACAKE_CAIRO

std::string png(const draw::Drawing&) { return {}; }

#else

namespace {

constexpr double kScale = 2;

void set_color(cairo_t* cairo, const std::string& color) {
  const unsigned long rgb = std::stoul(color.substr(1), nullptr, 16);
  const auto part = [&](int shift) { return (double)(rgb >> shift & 255) / 255; };
  cairo_set_source_rgb(cairo, part(16), part(8), part(0));
}

void draw(cairo_t* cairo, const draw::Drawing& drawing) {
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
    using Align = draw::Drawing::Align;
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

std::string png(const draw::Drawing& drawing) {
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
        {.subject = "the picture", .found = fmt::format("cannot be drawn: {}", cairo_status_to_string(status))});
  }
  return bytes;
}

#endif

}  // namespace lacake::cli
