#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lacake::eval {

// A picture as shapes, so that it can become SVG here and PNG where cairo is.
struct Drawing {
  enum class Align { kLeft, kCenter, kRight };
  struct Box {
    double x, y, width, height;
    std::string color;  // "#rrggbb"
    std::string title;  // shown by a browser when pointed at
  };
  struct Text {
    double x, y, size;  // y: the baseline
    std::string text;
    std::string color;
    Align align = Align::kLeft;
    bool bold = false;
  };
  struct Line {
    std::vector<std::pair<double, double>> points;
    std::string color;
    double width = 1;
  };

  double width = 0, height = 0;
  std::vector<Box> boxes;   // drawn first
  std::vector<Line> lines;  // then these
  std::vector<Text> texts;  // over all
};

std::string svg(const Drawing& drawing);

// Text for HTML and SVG.
std::string escaped(std::string_view text);

}  // namespace lacake::eval
