// lacake eval compare A B: two folders of results, cell by cell.

#include <fmt/format.h>
#include <unistd.h>

#include "base/files.h"
#include "eval.h"
#include "eval/report.h"
#include "lacake/error.h"
#include "output.h"

namespace lacake::cli {
namespace {

nlohmann::json read_json(const std::string& path) {
  const auto text = read_file_if_there(path);
  if (!text) throw Error({.subject = path, .found = "no such file"});
  nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
  if (!json.is_object()) throw Error({.subject = path, .expected = "a JSON object", .found = "another text"});
  return json;
}

}  // namespace

int eval_compare(const Options& options) {
  if (options.words.size() != 3) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "compare",
                 .expected = "two folders of results",
                 .found = fmt::format("{}", options.words.size() - 1)});
  }
  nlohmann::json configurations[2], metrics[2];
  for (std::size_t i = 0; i < 2; ++i) {
    nlohmann::json& of = configurations[i];
    of = read_json(options.words[i + 1] + "/config.json");
    of.erase("schema");
    // Which texts, how long and how many is part of what scores mean; which cells is what is compared.
    if (of.contains("grid") && of["grid"].is_object()) of["grid"].erase("cells");
    metrics[i] = read_json(options.words[i + 1] + "/metrics.json");
    if (!metrics[i].contains("task") || !metrics[i].contains("cells")) {
      throw Error({.subject = options.words[i + 1] + "/metrics.json",
                   .expected = "metrics of an evaluation",
                   .found = "other JSON"});
    }
  }
  const std::string differs = eval::difference(configurations[0], configurations[1]);
  const auto rows = eval::comparison(metrics[0], metrics[1]);
  if (options.json) {
    nlohmann::json out = {{"schema", 1}, {"difference", differs}, {"rows", nlohmann::json::array()}};
    for (std::size_t r = 1; r < rows.size(); ++r) out["rows"].push_back(rows[r]);
    out["head"] = rows[0];
    write_output(out.dump() + "\n");
    return 0;
  }
  write_output(fmt::format("A {}\nB {}\n{}\n\n{}", options.words[1], options.words[2],
                           differs.empty() ? "of the same configuration" : "configurations differ: " + differs,
                           table_text(rows, Terminal(STDOUT_FILENO, options.color))));
  return 0;
}

}  // namespace lacake::cli
