#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/open_file.h"

namespace lacake::eval {

// A folder of results, of which one Results at a time is the writer:
//   config.json        what gives a record its meaning (model, data, protocol), and the grid of the last run
//   predictions.jsonl  one record a line, appended and flushed one by one: the only file that work is lost with
//   metrics.json, report.html  made from the records, replaced as a whole
class Results {
 public:
  // Makes the folder, or goes on with the one that is there. `config` has two keys: "meaning", which must be that of
  // the folder, and "grid" (policies, budgets, how many samples), which may differ from run to run. Throws
  // Error(kUsage) naming every key that differs, or where another Results, of any process, writes this folder: both
  // would make every record twice. Throws Error(kInput) for files that cannot be read or written.
  Results(std::string folder, nlohmann::json config);

  // Those of earlier runs and of this one, in the order they were made.
  const std::vector<nlohmann::json>& records() const { return records_; }
  // On disk when this returns; throws Error(kInput) where it cannot be, and then nothing is lost but this record.
  void add(const nlohmann::json& record);

  void write(std::string_view file, std::string_view bytes) const;  // the whole file or the old one

  const std::string& folder() const { return folder_; }
  const nlohmann::json& config() const { return config_; }

 private:
  std::string path(std::string_view file) const { return folder_ + "/" + std::string(file); }

  std::string folder_;
  OpenFile lock_;  // of the folder
  nlohmann::json config_;
  std::vector<nlohmann::json> records_;
};

// "model.name: was \"a\", now \"b\"; seed: was 1, now 2": what two JSON objects disagree on, by path.
std::string difference(const nlohmann::json& was, const nlohmann::json& now);

// Records of a predictions.jsonl, also while somebody writes it. A last line without its end, left by a machine that
// stopped, is no record.
std::vector<nlohmann::json> read_records(const std::string& path);

}  // namespace lacake::eval
