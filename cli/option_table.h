// The table of all options: what a value may be, where it goes, and everything that is said of it. Who adds an option
// adds a field to Options and a row here; help, checks, completions, man pages and JSON follow from it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "options.h"

namespace lacake::cli::option_table {

// The largest value of an option that has no other bound.
constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

// What a value may be, and where it goes.
struct Text {
  std::variant<std::string Options::*, std::optional<std::string> Options::*> field;
};
struct Whole {
  std::optional<std::int64_t> Options::*field;
  std::int64_t min;
  std::int64_t max;
};
struct Real {
  std::optional<double> Options::*field;
  double min;
  double max;
};
struct Choice {
  std::variant<std::string Options::*, std::optional<std::string> Options::*> field;
  std::vector<std::string> words;
};
struct Switch {
  bool Options::*field;
};
// May be given several times; nothing of it is lost.
struct Texts {
  std::vector<std::string> Options::*field;
};
// The same, and a comma separates two.
struct Wholes {
  std::vector<std::int64_t> Options::*field;
  std::int64_t min;
  std::int64_t max;
};

constexpr const char* kModelTasks = "perplexity,needle,ruler,longbench";

// One option: everything that is said of it anywhere.
struct Row {
  std::string flags;  // as CLI11 takes them; the last is the name in messages
  std::string json;
  std::string value;  // what stands for the value in help texts
  std::string group;
  std::string help;
  unsigned commands;
  std::variant<Text, Whole, Real, Choice, Switch, Texts, Wholes> kind;
  const char* tasks = kModelTasks;  // of `eval`: those that it is for, with commas between

  std::string name() const { return flags.substr(flags.rfind(',') + 1); }
};

const std::vector<Row>& rows();

}  // namespace lacake::cli::option_table
