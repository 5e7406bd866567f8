#include "lacake/version.h"

namespace lacake {

const char* version() { return LACAKE_VERSION; }

}  // namespace lacake
