#pragma once

#include <string>

namespace lacake {

// Folders of this checkout that tests read. In one source file of their own, so that no other object depends on where
// the checkout lies.
std::string test_source_dir();     // tests/
std::string default_golden_dir();  // tests/golden/data

}  // namespace lacake
