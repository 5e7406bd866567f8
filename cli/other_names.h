#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lacake::cli {

// What llama.cpp and its tools call something that goes by another name here, or that lacake does not have. As the end
// of a message about an option that is not there: ", did you mean --system?" or ": lacake computes on the CPU". "" for
// a name that is none of theirs.
std::string of_llama_cpp(std::string_view flag);

// The first word of a command line that is one of those and no flag of `known`: CLI11 would read -ngl as -n with the
// value "gl". Words that are the value of one of `with_value` are passed over. "": none.
std::string foreign_flag(const std::vector<std::string>& words, const std::vector<std::string>& known,
                         const std::vector<std::string>& with_value);

// Takes those of llama-server's flags out of a command line of `lacake serve` that need nothing here. Returns a line
// about each: none is taken silently.
std::vector<std::string> take_flags_without_effect(std::vector<std::string>& words,
                                                   const std::vector<std::string>& with_value);

}  // namespace lacake::cli
