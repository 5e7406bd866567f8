#pragma once

#include <cstddef>
#include <functional>

namespace lacake {

// Calls it on a thread of its own that has so much stack, and waits: for other people's code that calls itself as often
// as its input says. Costs some tens of microseconds, and memory only as far as the stack is used.
// Throws what the call throws, and Error(kCapacity) where the machine has no such stack.
void on_deep_stack(std::size_t stack_bytes, const std::function<void()>& call);

}  // namespace lacake
