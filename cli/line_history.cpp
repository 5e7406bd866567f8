#include "line_history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/files.h"
#include "lacake/error.h"

namespace lacake::cli {
namespace {

std::string encoded(const std::string& line) { return nlohmann::json(line).dump() + "\n"; }

// Lines that are no JSON string are somebody's accident, and dropped.
std::vector<std::string> decoded(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const auto value = nlohmann::json::parse(line, nullptr, false);
    if (value.is_string()) lines.push_back(value.get<std::string>());
  }
  return lines;
}

// With everything above it; only the user's own. Whether that worked, opening a file in it says.
void make_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (std::filesystem::exists(folder, ignored)) return;
  std::filesystem::create_directories(folder, ignored);
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, ignored);
}

}  // namespace

LineHistory::LineHistory(std::string path) : path_(std::move(path)) {
  make_folder(std::filesystem::path(path_).parent_path());
  file_ = OpenFile(path_, O_RDWR | O_CREAT | O_APPEND);
  if (file_.get() < 0 || ::fchmod(file_.get(), S_IRUSR | S_IWUSR) != 0) fail_at(path_, "opened", errno);
  if (const int error = file_.lock()) fail_at(path_, "locked", error);
  lines_ = decoded(read_descriptor(file_.get(), path_));
  if (lines_.size() > 2 * kMaxLines) {
    lines_.erase(lines_.begin(), lines_.end() - kMaxLines);
    std::string kept;
    for (const std::string& line : lines_) kept += encoded(line);
    if (::ftruncate(file_.get(), 0) != 0) fail_at(path_, "shortened", errno);
    if (const int error = write_descriptor(file_.get(), kept)) fail_at(path_, "written", error);
  } else if (lines_.size() > kMaxLines) {
    lines_.erase(lines_.begin(), lines_.end() - kMaxLines);
  }
  file_.unlock();
}

void LineHistory::add(const std::string& line) {
  lines_.push_back(line);
  if (line.size() > kMaxBytes) return;
  if (const int error = file_.lock()) fail_at(path_, "locked", error);
  const int error = write_descriptor(file_.get(), encoded(line));
  file_.unlock();
  if (error != 0) fail_at(path_, "written", error);
}

std::string chat_history_path() {
  const auto folder = [](const char* variable) {
    const char* value = std::getenv(variable);
    return value != nullptr && *value == '/' ? std::string(value) : std::string();
  };
  if (const std::string state = folder("XDG_STATE_HOME"); !state.empty()) return state + "/lacake/chat_history";
  const std::string home = folder("HOME");
  return home.empty() ? "" : home + "/.local/state/lacake/chat_history";
}

}  // namespace lacake::cli
