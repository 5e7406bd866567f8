#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "draw/drawing.h"

namespace lacake::eval {

// Scores (0 to 1) of one cell over length and depth.
struct HeatMap {
  std::string title;
  std::vector<std::size_t> lengths;         // columns
  std::vector<int> depths;                  // rows
  std::vector<std::vector<double>> scores;  // [depth][length]; below 0: nothing there
};

// Of every cell of metrics whose groups have a length and a depth; empty if they have not.
std::vector<HeatMap> heat_maps(const nlohmann::json& metrics);

// All maps, beside and below each other: those of one policy in a row.
draw::Drawing heat_map_drawing(const std::vector<HeatMap>& maps);

// A row of characters for each depth; a darker one is a better score. `utf8`: blocks instead of digits.
std::string heat_map_text(const HeatMap& map, bool utf8);

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

// Lines over numbers; x by its logarithm where asked.
draw::Drawing line_chart(const std::string& x_label, const std::string& y_label, const std::vector<Series>& series,
                         bool log_x);

}  // namespace lacake::eval
