#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lacake::draw {

// A picture as shapes: SVG here, PNG where cairo is (cli/picture.h). All pictures that the program draws are these.
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

// The same drawing gives the same bytes. Boxes of one colour without titles that follow each other become one path.
std::string svg(const Drawing& drawing);

// Text for HTML and SVG.
std::string escaped(std::string_view text);

}  // namespace lacake::draw
