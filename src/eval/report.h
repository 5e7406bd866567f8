#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lacake::eval {

// report.html: one page without anything from elsewhere. What was run and how, a table of all cells, and the pictures
// that the metrics have numbers for: scores by task, quality against budget, perplexity by position, heat maps.
std::string report_html(const nlohmann::json& config, const nlohmann::json& metrics);

// Mean scores in percent by task and whatever else samples are tagged with: a row for each group of samples, a column
// for each cell, the first row and column their names, the last row the tasks' mean. Empty where samples have no task.
std::vector<std::vector<std::string>> scores_by_task(const nlohmann::json& metrics);

// Two results' metrics of one task, cell by cell, as rows of a table: the first row is its head. Cells that only one of
// them has are shown with what there is. Throws Error(kInput) if the tasks differ.
std::vector<std::vector<std::string>> comparison(const nlohmann::json& a, const nlohmann::json& b);

}  // namespace lacake::eval
