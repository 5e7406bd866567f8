#pragma once

#include <cstdlib>

namespace lacake {

// Whether longer texts are wanted than make test has time for: the tests with the label parity-long.
inline bool long_run() { return std::getenv("LACAKE_LONG_RUN") != nullptr; }

}  // namespace lacake
