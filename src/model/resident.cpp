#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "lacake/memory.h"

namespace lacake {
namespace {

// A field of /proc/self/status, given there in kB.
std::uint64_t status_bytes(const char* field) {
  std::FILE* file = std::fopen("/proc/self/status", "re");
  if (!file) return 0;
  char line[256];
  unsigned long long kib = 0;
  while (std::fgets(line, sizeof line, file)) {
    if (std::strncmp(line, field, std::strlen(field)) == 0) {
      std::sscanf(line + std::strlen(field), ": %llu", &kib);
      break;
    }
  }
  std::fclose(file);
  return kib * 1024;
}

}  // namespace

std::uint64_t resident_bytes() { return status_bytes("VmRSS"); }

std::uint64_t peak_resident_bytes() {
  if (const std::uint64_t peak = status_bytes("VmHWM")) return peak;
  struct rusage usage {};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
  return (std::uint64_t)usage.ru_maxrss;
#else
  return (std::uint64_t)usage.ru_maxrss * 1024;
#endif
}

}  // namespace lacake
