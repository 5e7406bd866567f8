#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lacake {

// Finds the first of several strings in a text that comes in pieces. Text that may still become one is held back, so
// that nobody sees half of it; what was given out, joined, does not depend on how the text was split.
// With Utf8Stream: push() gets what Utf8Stream gave, so pieces end between characters.
class StopStrings {
 public:
  // Empty strings are left out: they would stop everything. Costs the sum of their lengths in bytes.
  explicit StopStrings(std::vector<std::string> stops);

  // The text that is known not to belong to a stop string. Once one is found: the text in front of it, and nothing
  // more from later pieces.
  // Where two begin at the same place the one that is complete first counts; an earlier beginning counts before both
  // only if it is complete by then.
  std::string push(std::string_view text);

  // The end of the text: what was held back is no stop string. "" once one is found.
  std::string flush();

  bool found() const { return found_.has_value(); }
  // REQUIRES: found().
  const std::string& which() const { return stops_[*found_]; }

  // As new.
  void reset();

 private:
  std::vector<std::string> stops_;
  std::vector<std::size_t> matched_;                // how many first bytes of each the text ends with
  std::vector<std::vector<std::size_t>> fallback_;  // by Knuth, Morris and Pratt: the next shorter match
  std::string held_;
  std::optional<std::size_t> found_;
};

}  // namespace lacake
