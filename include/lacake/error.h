#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace lacake {

// What went wrong outside the program's own promises. A broken promise by the caller is an assertion, not an Error.
//   kUsage     a flag, parameter or setting that cannot be used as given           (exit status 2)
//   kInput     a file, prompt or model that is not what it should be               (exit status 1)
//   kCapacity  what was asked for does not fit; the message has the numbers        (exit status 1)
// The message is one line: it names the file, key or flag, what was expected and what was found.
class Error : public std::runtime_error {
 public:
  enum class Kind { kUsage, kInput, kCapacity };

  Error(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

}  // namespace lacake
