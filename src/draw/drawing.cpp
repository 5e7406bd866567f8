#include "draw/drawing.h"

#include <fmt/format.h>

namespace lacake::draw {

namespace {

// To a tenth, without a ".0".
std::string number(double x) {
  std::string text = fmt::format("{:.1f}", x);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

}  // namespace

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
  for (std::size_t i = 0; i < d.boxes.size();) {
    const Drawing::Box& b = d.boxes[i];
    if (!b.title.empty()) {
      out += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"><title>{}</title></rect>\n",
          b.x, b.y, b.width, b.height, b.color, escaped(b.title));
      ++i;
      continue;
    }
    out += fmt::format("<path fill=\"{}\" d=\"", b.color);
    for (; i < d.boxes.size() && d.boxes[i].title.empty() && d.boxes[i].color == b.color; ++i) {
      const Drawing::Box& same = d.boxes[i];
      // Edges are rounded, not widths, so that neighbours meet.
      out += fmt::format("M{} {}H{}V{}H{}z", number(same.x), number(same.y), number(same.x + same.width),
                         number(same.y + same.height), number(same.x));
    }
    out += "\"/>\n";
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

}  // namespace lacake::draw
