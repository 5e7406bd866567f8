#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lacake::eval {

// A file as it was read. Samples and what they are known by come of the same bytes: a pipe can be read but once.
struct DataFile {
  std::string path;
  std::string text;
};

// What a line that is no JSON object means.
enum class BadLine { kStop, kSkip };

struct JsonLines {
  struct Line {
    std::size_t number;  // from 1
    nlohmann::json value;
  };
  std::vector<Line> lines;
  std::vector<std::string> skipped;  // "FILE:LINE: what is wrong", one for each line left out
};

// One JSON object a line; empty lines count but say nothing. Throws Error(kInput) "FILE:LINE: ..." at the first bad
// line under kStop.
JsonLines parse_json_lines(std::string_view name, std::string_view text, BadLine bad);

}  // namespace lacake::eval
