#include "eval/drawing.h"

#include <fmt/format.h>

namespace lacake::eval {

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string svg(const Drawing& d) {
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" height=\"{1:g}\" "
      "font-family=\"system-ui, 'DejaVu Sans', sans-serif\">\n<rect width=\"{0:g}\" height=\"{1:g}\" "
      "fill=\"#ffffff\"/>\n",
      d.width, d.height);
  for (const auto& b : d.boxes) {
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\">", b.x, b.y,
                       b.width, b.height, b.color);
    if (!b.title.empty()) out += fmt::format("<title>{}</title>", escaped(b.title));
    out += "</rect>\n";
  }
  for (const auto& line : d.lines) {
    out += "<polyline points=\"";
    for (const auto& [x, y] : line.points) out += fmt::format("{:.1f},{:.1f} ", x, y);
    out += fmt::format("\" fill=\"none\" stroke=\"{}\" stroke-width=\"{:g}\" stroke-linejoin=\"round\"/>\n", line.color,
                       line.width);
  }
  for (const auto& t : d.texts) {
    const char* anchor = t.align == Drawing::Align::kLeft     ? "start"
                         : t.align == Drawing::Align::kCenter ? "middle"
                                                              : "end";
    out +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{:g}\" fill=\"{}\" text-anchor=\"{}\"{}>{}</text>\n",
                    t.x, t.y, t.size, t.color, anchor, t.bold ? " font-weight=\"bold\"" : "", escaped(t.text));
  }
  return out + "</svg>\n";
}

}  // namespace lacake::eval
