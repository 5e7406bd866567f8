#include "lacake/error.h"

#include <utility>

namespace lacake {

Error::Error(Fields fields)
    : std::runtime_error(line(renamed(fields, own_name))), fields_(std::make_shared<const Fields>(std::move(fields))) {}

std::string Error::line(const Fields& f) {
  std::string text = f.subject;
  const auto add = [&](const char* separator, const std::string& part) {
    if (part.empty()) return;
    if (!text.empty()) text += separator;
    text += part;
  };
  if (!f.expected.empty()) {
    add(": ", "expected " + f.expected);
    if (!f.found.empty()) text += ", found " + f.found;
  } else {
    add(": ", f.found);
  }
  add("; ", f.remedy);
  // One line, whatever a file or a user put into it.
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

}  // namespace lacake
