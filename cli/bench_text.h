#pragma once

#include <string_view>

namespace lacake::cli {

// A page of English prose, about 600 tokens: what bench's prompts are made of where no file is given.
extern const std::string_view kBenchText;

}  // namespace lacake::cli
