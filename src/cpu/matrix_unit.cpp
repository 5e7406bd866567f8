#include "cpu/matrix_unit.h"

#if LACAKE_MATRIX_UNIT
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lacake::cpu {
namespace {

bool ask() {
#if LACAKE_MATRIX_UNIT
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTiles | kInt8;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAll) != kAll) return false;
  // Every processor with tiles has these; a virtual machine may hide them.
  constexpr unsigned kVectorBf16 = 1u << 5, kVectorBytes = 1u << 1;
  if (!(c & kVectorBytes)) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & kVectorBf16)) return false;
  // Linux gives the registers out on request only, once for a process and all its threads.
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

}  // namespace

bool has_matrix_unit() {
  static const bool has = ask();
  return has;
}

}  // namespace lacake::cpu
