#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "lacake/error.h"

namespace lacake::eval {

// How whoever started work learns of it.
struct RunControl {
  // Tokens of work done and to do, those of earlier runs left out. False: stop (what is finished is kept).
  std::function<bool(std::size_t done, std::size_t total)> progress = [](std::size_t, std::size_t) { return true; };
  std::function<void(const std::string&)> notice = [](const std::string&) {};
  // An error's line in the words of whoever reads the notices.
  std::function<std::string(const Error&)> words = [](const Error& error) { return std::string(error.what()); };
};

}  // namespace lacake::eval
