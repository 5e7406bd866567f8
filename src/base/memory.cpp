#include "lacake/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace lacake {
namespace {

// A field of a file under /proc that is given in kB there; 0 where there is none.
std::uint64_t proc_bytes(const char* path, const char* field) {
  std::FILE* file = std::fopen(path, "re");
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

std::uint64_t resident_bytes() { return proc_bytes("/proc/self/status", "VmRSS"); }

std::uint64_t peak_resident_bytes() {
  if (const std::uint64_t peak = proc_bytes("/proc/self/status", "VmHWM")) return peak;
  struct rusage usage {};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
  return (std::uint64_t)usage.ru_maxrss;
#else
  return (std::uint64_t)usage.ru_maxrss * 1024;
#endif
}

std::uint64_t machine_memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES), page_bytes = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page_bytes > 0 ? (std::uint64_t)pages * (std::uint64_t)page_bytes : 0;
}

std::uint64_t free_memory_bytes() {
  const std::uint64_t free = proc_bytes("/proc/meminfo", "MemAvailable");
  return free > 0 ? free : machine_memory_bytes();
}

}  // namespace lacake
