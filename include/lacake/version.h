#pragma once

// The version of these headers, for the preprocessor. CMakeLists.txt reads it from here. A new major version may change
// any interface; a new minor one adds to them.

#define LACAKE_VERSION_MAJOR 0
#define LACAKE_VERSION_MINOR 1
#define LACAKE_VERSION_PATCH 0

#define LACAKE_VERSION_TEXT_2(number) #number
#define LACAKE_VERSION_TEXT(number) LACAKE_VERSION_TEXT_2(number)
#define LACAKE_VERSION                      \
  LACAKE_VERSION_TEXT(LACAKE_VERSION_MAJOR) \
  "." LACAKE_VERSION_TEXT(LACAKE_VERSION_MINOR) "." LACAKE_VERSION_TEXT(LACAKE_VERSION_PATCH)  // "0.1.0"

namespace lacake {

// Of the library that the program runs with, which may be another than that of its headers. "0.1.0"
const char* version();

}  // namespace lacake
