#include "named_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "base/files.h"
#include "lacake/calibration.h"
#include "lacake/error.h"
#include "lacake/model.h"

namespace lacake::cli {

std::vector<NamedFile> files_read(const Options& options, Command command) {
  std::vector<NamedFile> files;
  const auto add = [&](const char* setting, const std::string& path) {
    files.push_back({flag_of(command, setting), path});
  };
  const std::pair<const char*, const std::optional<std::string>&> named[] = {
      {"file", options.file},
      {"tools", options.tools_file},
      {"grammar_file", options.grammar_file},
      {"json_schema_file", options.json_schema_file},
      {"chat_template_file", options.chat_template_file},
  };
  for (const std::string& part : model_files(options.model)) add("model", part);
  for (const auto& [setting, path] : named) {
    if (path) add(setting, *path);
  }
  for (const std::string& path : options.files) add("files", path);
  for (const std::string& path : options.lora) add("lora", path);
  for (const std::string& text : options.lora_scaled) add("lora_scaled", Model::LoraFile::parse(text).path);
  // What `calibrate` makes the others find beside the model.
  const std::string calibration = options.calibration.value_or(calibration_path(options.model));
  if (command != kCalibrate && std::filesystem::exists(calibration)) add("calibration", calibration);
  return files;
}

void require_apart(const std::vector<NamedFile>& written, const std::vector<NamedFile>& read) {
  const auto require = [](const NamedFile& file, const NamedFile& other) {
    const std::string path = other.path == "-" ? "/dev/stdin" : other.path;
    if (!is_same_file(file.path, path)) return;
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = file.name,
                 .expected = fmt::format("another file than {} {}", other.name, other.path),
                 .found = file.path});
  };
  for (std::size_t i = 0; i < written.size(); ++i) {
    for (const NamedFile& other : read) require(written[i], other);
    for (std::size_t j = 0; j < i; ++j) require(written[i], written[j]);
  }
}

}  // namespace lacake::cli
