#pragma once

// How deep brackets are nested. The pinned sources' parsers of JSON and of answers call themselves once for each, so a
// text of a few ten thousand would end the process: what is deeper than these is not given to them.

#include <cstddef>
#include <string_view>

namespace lacake {

constexpr std::size_t kDeepestJson = 64;      // as a request's own body
constexpr std::size_t kDeepestAnswer = 1000;  // brackets of an answer, which may be prose or code

// Of [ and {, closed or not. `json`: those in strings do not count.
std::size_t nesting_of(std::string_view text, bool json);

}  // namespace lacake
