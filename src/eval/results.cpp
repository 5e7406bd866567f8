#include "eval/results.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <filesystem>

#include "base/files.h"
#include "eval/json_lines.h"
#include "lacake/error.h"

namespace lacake::eval {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kRecords = "predictions.jsonl";

void collect(const nlohmann::json& was, const nlohmann::json& now, const std::string& path, std::string& out) {
  if (was == now) return;
  if (was.is_object() && now.is_object()) {
    nlohmann::json keys = was;
    keys.update(now);
    for (const auto& entry : keys.items()) {
      const std::string& key = entry.key();
      const auto of = [&](const nlohmann::json& object) {
        return object.contains(key) ? object[key] : nlohmann::json();
      };
      collect(of(was), of(now), path.empty() ? key : path + "." + key, out);
    }
    return;
  }
  out += fmt::format("{}{}: was {}, now {}", out.empty() ? "" : "; ", path, was.dump(), now.dump());
}

}  // namespace

std::string difference(const nlohmann::json& was, const nlohmann::json& now) {
  std::string out;
  collect(was, now, "", out);
  return out;
}

std::vector<nlohmann::json> read_records(const std::string& path) {
  std::string text = read_file_if_there(path).value_or("");
  text.resize(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1);
  std::vector<nlohmann::json> records;
  for (JsonLines::Line& line : parse_json_lines(path, text, BadLine::kStop).lines) {
    records.push_back(std::move(line.value));
  }
  return records;
}

Results::Results(std::string folder, nlohmann::json config) : folder_(std::move(folder)), config_(std::move(config)) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) {
    throw Error({.subject = "results " + folder_, .found = "cannot be made: " + error.message()});
  }
  // A file system that knows no locks is no reason to refuse.
  lock_ = OpenFile(folder_, O_RDONLY | O_DIRECTORY);
  if (lock_.try_lock() == EWOULDBLOCK) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "results " + folder_,
                 .expected = "a folder that no other evaluation is writing",
                 .found = "one that is being written now"});
  }
  if (const auto text = read_file_if_there(path(kConfig)); text && !text->empty()) {
    const nlohmann::json there = nlohmann::json::parse(*text, nullptr, false);
    if (!there.is_object() || !there.contains("meaning")) {
      throw Error(
          {.subject = path(kConfig), .expected = "the configuration of an evaluation", .found = "another text"});
    }
    if (const std::string differs = difference(there["meaning"], config_["meaning"]); !differs.empty()) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "results " + folder_,
                   .expected = "a new folder, or one of the same configuration",
                   .found = fmt::format("one of another configuration ({})", differs)});
    }
  } else if (std::filesystem::exists(path(kRecords))) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "results " + folder_,
                 .expected = fmt::format("{} beside {}", kConfig, kRecords),
                 .found = "none"});
  }
  records_ = read_records(path(kRecords));
  // Half a line at the end would spoil the next record.
  const std::string text = read_file_if_there(path(kRecords)).value_or("");
  const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  if (whole < text.size()) replace_durably(path(kRecords), std::string_view(text).substr(0, whole));
  replace_durably(path(kConfig), config_.dump(2) + "\n");
}

void Results::add(const nlohmann::json& record) {
  const std::string line = record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  append_durably(path(kRecords), line + "\n");
  // As a later run will read it: half a character of an answer is replaced.
  records_.push_back(nlohmann::json::parse(line));
}

void Results::write(std::string_view file, std::string_view bytes) const { replace_durably(path(file), bytes); }

}  // namespace lacake::eval
