#include "model/device.h"

#include <mutex>

#include "lacake/error.h"

namespace lacake {

ggml_backend_dev_t cpu_device() {
  static std::once_flag loaded;
  std::call_once(loaded, ggml_backend_load_all);
  ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (!device) {
    throw Error({.subject = "ggml",
                 .expected = "a CPU backend",
                 .found = "none",
                 .remedy = "is its module installed beside libggml?"});
  }
  return device;
}

}  // namespace lacake
