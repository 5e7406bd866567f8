#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lacake::eval {

// report.html: one page without anything from elsewhere. What was run and how, a table of all cells, and the pictures
// that the metrics have numbers for: scores by task, quality against budget, perplexity by position, heat maps.
std::string report_html(const nlohmann::json& config, const nlohmann::json& metrics);

// Mean scores in percent, each with its interval, by task and whatever else samples are tagged with: a row for each
// group of samples, a column for each cell, the first row and column their names, the last row the tasks' mean. Empty
// where samples have no task.
std::vector<std::vector<std::string>> scores_by_task(const nlohmann::json& metrics);

// The same by the questions' numbers, where several were asked about each text.
std::vector<std::vector<std::string>> scores_by_question(const nlohmann::json& metrics);

// "+12.5 (+4.7 to +20.3)": what a cell has more than the one it is held against, in percent and with its 95 % interval;
// of perplexity the factor, "0.951 (0.942 to 0.960)". "" where it is held against none.
std::string beside_text(const nlohmann::json& cell);

// "71.2 to 88.0": an interval that a cell has under this key, in percent; "" where it has none.
std::string interval_text(const nlohmann::json& cell, const char* key);

// Two results' metrics of one task, cell by cell, as rows of a table: the first row is its head. Cells that only one of
// them has are shown with what there is. Throws Error(kInput) if the tasks differ.
std::vector<std::vector<std::string>> comparison(const nlohmann::json& a, const nlohmann::json& b);

}  // namespace lacake::eval
