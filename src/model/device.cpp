#include "model/device.h"

#include <dlfcn.h>

#include <filesystem>
#include <mutex>

#include "lacake/error.h"

namespace lacake {
namespace {

// Backends may be modules. Those beside the libggml that is in use were made with it; ggml by itself would look beside
// the program and in the current folder, where anything may lie.
void load_backends() {
  Dl_info libggml;
  if (::dladdr(reinterpret_cast<void*>(&ggml_backend_load_all), &libggml) != 0 && libggml.dli_fname != nullptr) {
    const std::filesystem::path folder = std::filesystem::path(libggml.dli_fname).parent_path();
    if (!folder.empty()) ggml_backend_load_all_from_path(folder.c_str());
  }
  // A distribution's ggml may have a folder for them.
  if (!ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU)) ggml_backend_load_all();
}

}  // namespace

ggml_backend_dev_t cpu_device() {
  static std::once_flag loaded;
  std::call_once(loaded, load_backends);
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
