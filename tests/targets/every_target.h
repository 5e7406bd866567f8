#pragma once

#include <gtest/gtest.h>

#include "cpu/target.h"

namespace lacake {

// Calls use() once for every dispatch target of this machine, with the kernels as compiled for it.
template <class Use>
void on_every_target(const Use& use) {
  const std::vector<std::string> names = cpu::target_names();
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    cpu::use_target(name);
    use();
  }
  cpu::use_target(names.front());
}

}  // namespace lacake
