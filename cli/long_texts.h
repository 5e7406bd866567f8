#pragma once

#include <map>
#include <string>

namespace lacake::cli {

// Texts that would fill the screen, and the short names that stand for them in a line while it is edited.
class LongTexts {
 public:
  // The text itself where it has few lines and letters; otherwise a name for it: "[text 2: 240 lines]".
  std::string shown(const std::string& text);
  // The line with the texts in place of their names.
  std::string whole(const std::string& line) const;

 private:
  std::map<std::string, std::string> text_of_;
};

}  // namespace lacake::cli
