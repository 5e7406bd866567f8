// lacake policies: what --policy can be.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "commands.h"
#include "lacake/policy.h"
#include "output.h"
#include "report.h"
#include "terminal.h"

namespace lacake::cli {
namespace {

using Kind = PolicyParameter::Kind;

std::string default_text(const PolicyParameter& parameter) {
  if (!parameter.default_text.empty()) return parameter.default_text;
  const PolicyValue& value = parameter.default_value;
  return value.is_number() ? fmt::format("{:.10g}", value.number()) : value.text();
}

std::string range_text(const PolicyParameter& parameter) {
  if (parameter.kind == Kind::kFile) return "a file";
  if (parameter.kind == Kind::kWord) return fmt::format("{}", fmt::join(parameter.words, " or "));
  // What nobody would reach is no bound to a reader.
  if (parameter.max >= 1e9) return fmt::format("from {:g}", parameter.min);
  return fmt::format("{:g} to {:g}", parameter.min, parameter.max);
}

std::string type_text(const PolicyType& type, const Terminal& terminal) {
  const std::size_t columns = std::clamp<std::size_t>(terminal.columns(), 60, 100);
  std::string text = terminal.paint(Style::kBold, type.name) + "\n" + wrapped(type.summary, 2, columns);
  if (!type.paper.empty()) text += terminal.paint(Style::kDim, wrapped(type.paper, 2, columns));
  for (const PolicyParameter& parameter : type.parameters) {
    const std::string setting = fmt::format("{}={}", parameter.name, default_text(parameter));
    text += fmt::format("    {}  {}\n", terminal.paint(Style::kCyan, fmt::format("{:<20}", setting)),
                        range_text(parameter));
    text += wrapped(parameter.help, 8, columns);
  }
  if (type.bounded) {
    text += fmt::format("    {}  from 1\n", terminal.paint(Style::kCyan, fmt::format("{:<20}", "cache_size=")));
    text += wrapped("entries a layer, the paper's C, instead of the largest that fits into --kv-budget", 8, columns);
  }
  return text;
}

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNumber:
      return "number";
    case Kind::kWholeNumber:
      return "whole number";
    case Kind::kWord:
      return "word";
    case Kind::kFile:
      return "file";
  }
  return "";
}

nlohmann::json type_json(const PolicyType& type) {
  nlohmann::json parameters = nlohmann::json::array();
  for (const PolicyParameter& parameter : type.parameters) {
    nlohmann::json json = {{"name", parameter.name},
                           {"kind", kind_name(parameter.kind)},
                           {"help", parameter.help},
                           {"default", default_text(parameter)}};
    if (parameter.kind == Kind::kWord) {
      json["choices"] = parameter.words;
    } else if (parameter.kind != Kind::kFile) {
      if (parameter.default_text.empty()) json["default"] = parameter.default_value.number();
      json["min"] = parameter.min;
      json["max"] = parameter.max;
      json["integer"] = parameter.kind == Kind::kWholeNumber;
    }
    parameters.push_back(std::move(json));
  }
  return {{"name", type.name},
          {"summary", type.summary},
          {"paper", type.paper},
          {"bounded", type.bounded},
          {"parameters", std::move(parameters)}};
}

}  // namespace

int policies(const Options& options) {
  if (options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const PolicyType& type : policy_types()) list.push_back(type_json(type));
    write_output(json_line({{"schema", 1}, {"policies", std::move(list)}}));
    return 0;
  }
  const Terminal terminal(STDOUT_FILENO, options.color);
  std::string text = "--policy NAME[:key=value,...]\n";
  for (const PolicyType& type : policy_types()) text.append("\n").append(type_text(type, terminal));
  write_output(text);
  return 0;
}

}  // namespace lacake::cli
