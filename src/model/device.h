#pragma once

#include "ggml-backend.h"

namespace lacake {

// The CPU device of ggml's registry, with all backends loaded that the system has. Throws Error(kInput) if there is
// none.
ggml_backend_dev_t cpu_device();

}  // namespace lacake
