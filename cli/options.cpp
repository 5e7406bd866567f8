#include "options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <ranges>
#include <variant>

#include "lacake/error.h"
#include "option_table.h"
#include "prompt.h"

namespace lacake::cli {

using namespace option_table;

namespace {

[[noreturn]] void fail(const Row& row, const std::string& expected, const std::string& found) {
  throw Error({.kind = Error::Kind::kUsage,
               .subject = row.name(),
               .expected = expected,
               .found = fmt::format("\"{}\"", found)});
}

// What may rightly be empty: a system message that takes the place of the template's own, a list of no samplers. An
// empty prompt is refused where it is read.
constexpr const char* kMayBeEmpty[] = {"system", "samplers", "sampling_seq", "prompt"};

// The system's names may be any bytes. The words of a task are files too.
bool is_path(const Row& row) {
  return row.value.starts_with("FILE") || row.value.starts_with("FOLDER") || row.value == "TASK";
}

// An empty value is what a script makes of a variable that is not set, and would pass for an option that is not given.
void require_value(const Row& row, const std::string& text) {
  if (text.empty() && std::ranges::find(kMayBeEmpty, row.json) == std::end(kMayBeEmpty)) fail(row, row.value, text);
  if (!is_path(row)) require_utf8(text, row.name());
}

template <typename Number>
std::optional<Number> parse(const std::string& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

struct Store {
  const Row& row;
  Options& options;
  const std::string& text;

  void operator()(const Text& kind) const {
    require_value(row, text);
    std::visit([&](auto field) { options.*field = text; }, kind.field);
  }
  void operator()(const Whole& kind) const {
    const auto value = parse<std::int64_t>(text);
    if (!value || *value < kind.min || *value > kind.max) {
      const std::string to = kind.max == kMost ? " or more" : fmt::format(" to {}", kind.max);
      fail(row, fmt::format("a whole number, {}{}", kind.min, to), text);
    }
    options.*kind.field = *value;
  }
  void operator()(const Real& kind) const {
    const auto value = parse<double>(text);
    if (!value || !(*value >= kind.min && *value <= kind.max)) {
      fail(row, fmt::format("a number from {:g} to {:g}", kind.min, kind.max), text);
    }
    options.*kind.field = *value;
  }
  void operator()(const Choice& kind) const {
    if (std::find(kind.words.begin(), kind.words.end(), text) == kind.words.end()) {
      fail(row, fmt::format("{}", fmt::join(kind.words, " or ")), text);
    }
    std::visit([&](auto field) { options.*field = text; }, kind.field);
  }
  void operator()(const Switch&) const {}
  void operator()(const Texts& kind) const {
    require_value(row, text);
    (options.*kind.field).push_back(text);
  }
  void operator()(const Wholes& kind) const {
    if (text.empty()) fail(row, "whole numbers", text);
    for (const auto part : std::views::split(text, ',')) {
      const auto value = parse<std::int64_t>(std::string(part.begin(), part.end()));
      if (!value || *value < kind.min || *value > kind.max) {
        fail(row, fmt::format("whole numbers, {} or more, with commas between", kind.min), text);
      }
      (options.*kind.field).push_back(*value);
    }
  }
};

std::vector<std::string> parts(std::string_view list) {
  std::vector<std::string> result;
  for (const auto part : std::views::split(list, ',')) result.emplace_back(part.begin(), part.end());
  return result;
}

// What a value may be, for programs.
struct Describe {
  nlohmann::json operator()(const Text&) const { return {{"kind", "text"}}; }
  nlohmann::json operator()(const Whole& kind) const {
    return {{"kind", "whole"}, {"min", kind.min}, {"max", kind.max}};
  }
  nlohmann::json operator()(const Real& kind) const { return {{"kind", "real"}, {"min", kind.min}, {"max", kind.max}}; }
  nlohmann::json operator()(const Choice& kind) const { return {{"kind", "choice"}, {"words", kind.words}}; }
  nlohmann::json operator()(const Switch&) const { return {{"kind", "switch"}}; }
  nlohmann::json operator()(const Texts&) const { return {{"kind", "text"}, {"repeatable", true}}; }
  nlohmann::json operator()(const Wholes& kind) const {
    return {{"kind", "whole"}, {"min", kind.min}, {"max", kind.max}, {"repeatable", true}};
  }
};

template <typename Value>
nlohmann::json value_json(const std::optional<Value>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}
template <typename Value>
nlohmann::json value_json(const Value& value) {
  return value;
}

}  // namespace

std::vector<std::string> list_items(const std::vector<std::string>& lists) {
  std::vector<std::string> result;
  for (const std::string& list : lists) {
    for (const auto part : std::views::split(list, ',')) result.emplace_back(part.begin(), part.end());
  }
  return result;
}

void add_options(CLI::App& app, Command command, Options& options) {
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    CLI::Option* option = nullptr;
    if (const auto* kind = std::get_if<Switch>(&row.kind)) {
      option = app.add_flag(row.flags, options.*kind->field, row.help);
    } else {
      // The last one given counts, so that a script's defaults can be overridden by appending.
      const auto store = [&](const std::string& text) { std::visit(Store{row, options, text}, row.kind); };
      const auto store_all = [store](const std::vector<std::string>& texts) { std::ranges::for_each(texts, store); };
      const bool several = std::holds_alternative<Texts>(row.kind) || std::holds_alternative<Wholes>(row.kind);
      option = several ? app.add_option_function<std::vector<std::string>>(row.flags, store_all, row.help)
                             ->allow_extra_args(!row.flags.starts_with('-'))
                       : app.add_option_function<std::string>(row.flags, store, row.help)->take_last();
      option->type_name(row.value);
    }
    option->group(row.group);
  }
}

void note_given(const CLI::App& app, Command command, Options& options) {
  for (const Row& row : rows()) {
    if ((row.commands & command) && app.get_option(row.name())->count() > 0) options.given.push_back(row.json);
  }
}

bool is_given(const Options& options, std::string_view json) {
  return std::find(options.given.begin(), options.given.end(), json) != options.given.end();
}

std::vector<OptionFacts> option_facts(Command command) {
  std::vector<OptionFacts> all;
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    all.push_back({.flags = parts(row.flags),
                   .json = row.json,
                   .group = row.group,
                   .tasks = command == kEval ? parts(row.tasks) : std::vector<std::string>{},
                   .takes_value = !std::holds_alternative<Switch>(row.kind)});
  }
  return all;
}

std::vector<std::string> option_names(Command command) {
  std::vector<std::string> names = {"--help"};
  for (const OptionFacts& option : option_facts(command)) {
    if (option.name().starts_with('-')) names.push_back(option.name());
  }
  return names;
}

std::string flag_of(Command command, std::string_view setting) {
  // Where a flag says more than the library's setting, it has a name of its own.
  if (setting == "thinking") setting = "reasoning";
  if (setting == "template_arguments") setting = "chat_template_kwargs";
  for (const Row& row : rows()) {
    if ((row.commands & command) && row.json == setting && row.flags.starts_with('-')) return row.name();
  }
  return "";
}

nlohmann::json option_table_json(Command command) {
  nlohmann::json table = nlohmann::json::array();
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    nlohmann::json option = std::visit(Describe{}, row.kind);
    option.update({{"flags", parts(row.flags)}, {"json", row.json}, {"value", row.value}, {"group", row.group}});
    option["help"] = row.help;
    if (command == kEval) option["tasks"] = parts(row.tasks);
    table.push_back(std::move(option));
  }
  return table;
}

nlohmann::json options_json(const Options& options, Command command) {
  nlohmann::json result = nlohmann::json::object();
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    nlohmann::json& value = result[row.json];
    std::visit(
        [&](const auto& kind) {
          using Kind = std::decay_t<decltype(kind)>;
          if constexpr (std::is_same_v<Kind, Text> || std::is_same_v<Kind, Choice>) {
            std::visit([&](auto field) { value = value_json(options.*field); }, kind.field);
          } else {
            value = value_json(options.*kind.field);
          }
        },
        row.kind);
  }
  return result;
}

nlohmann::json options_json(const Options& options, Command command, std::initializer_list<std::string_view> groups) {
  const nlohmann::json all = options_json(options, command);
  nlohmann::json result = nlohmann::json::object();
  for (const Row& row : rows()) {
    const bool asked = std::find(groups.begin(), groups.end(), row.group) != groups.end();
    if ((row.commands & command) && asked && !all.at(row.json).is_null()) result[row.json] = all.at(row.json);
  }
  return result;
}

}  // namespace lacake::cli
