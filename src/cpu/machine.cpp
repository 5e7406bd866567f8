#include "lacake/machine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>

#include "cpu/target.h"
#include "cpu/target_hold.h"
#include "lacake/error.h"

namespace lacake {
namespace {

std::mutex mutex;
std::size_t n_holds = 0;  // guarded by `mutex`

}  // namespace

std::vector<std::string> instruction_sets() { return cpu::target_names(); }
std::string instruction_set() { return cpu::target_name(); }

void use_instruction_set(std::string_view name) {
  const std::vector<std::string> names = cpu::target_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "instruction_set",
                 .expected = fmt::format("one of {}", fmt::join(names, ", ")),
                 .found = fmt::format("\"{}\"", name)});
  }
  const std::lock_guard lock(mutex);
  if (n_holds > 0) {
    throw Error({.kind = Error::Kind::kState,
                 .subject = "instruction_set",
                 .expected = "to be chosen before a model is opened",
                 .found = n_holds == 1 ? "an open model" : fmt::format("{} open models", n_holds)});
  }
  cpu::use_target(name);
}

namespace cpu {

TargetHold::TargetHold() {
  const std::lock_guard lock(mutex);
  ++n_holds;
}
TargetHold::~TargetHold() {
  const std::lock_guard lock(mutex);
  --n_holds;
}

}  // namespace cpu
}  // namespace lacake
