#include "tools.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "lacake/error.h"
#include "prompt.h"

namespace lacake::cli {
namespace {

Tool tool_of(const nlohmann::json& json, const std::string& path, std::size_t index) {
  const auto require = [&](bool holds, const char* expected) {
    if (holds) return;
    throw Error({.subject = path, .expected = expected, .found = fmt::format("none in tool {}", index + 1)});
  };
  require(json.is_object() && json.contains("function") && json.at("function").is_object(), "an object \"function\"");
  const nlohmann::json& function = json.at("function");
  const auto text = [&](const char* key) {
    return function.contains(key) && function.at(key).is_string() ? function.at(key).get<std::string>() : "";
  };
  Tool tool{.name = text("name"), .description = text("description")};
  require(!tool.name.empty(), "a text \"name\" in \"function\"");
  if (function.contains("parameters")) tool.parameters = function.at("parameters").dump();
  return tool;
}

}  // namespace

std::vector<Tool> read_tools(const std::string& path) {
  const nlohmann::json json = nlohmann::json::parse(read_text(path), nullptr, false);
  if (json.is_discarded()) throw Error({.subject = path, .expected = "JSON", .found = "something else"});
  if (!json.is_array()) throw Error({.subject = path, .expected = "a JSON list of tools", .found = json.type_name()});
  std::vector<Tool> tools;
  for (std::size_t i = 0; i < json.size(); ++i) tools.push_back(tool_of(json[i], path, i));
  return tools;
}

}  // namespace lacake::cli
