#include "tools/paths.h"

namespace lacake {

std::string test_source_dir() { return LACAKE_TEST_SOURCE_DIR; }
std::string default_golden_dir() { return test_source_dir() + "/golden/data"; }

}  // namespace lacake
