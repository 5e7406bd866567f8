#pragma once

#include <gtest/gtest.h>

#include "cpu/target.h"

namespace lacake {

// Calls use() once for every dispatch target of this machine, with the kernels as compiled for it. Afterwards the one
// is in use again that was before.
template <class Use>
void on_every_target(const Use& use) {
  const std::string before = cpu::target_name();
  const std::vector<std::string> names = cpu::target_names();
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    cpu::use_target(name);
    use();
  }
  cpu::use_target(before);
}

}  // namespace lacake
