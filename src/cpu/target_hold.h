#pragma once

namespace lacake::cpu {

// Nobody chooses another target by use_instruction_set() while one of these lives: what is packed for a target is read
// by kernels of the same. Any thread.
class TargetHold {
 public:
  TargetHold();
  ~TargetHold();
  TargetHold(const TargetHold&) = delete;
  TargetHold& operator=(const TargetHold&) = delete;
};

}  // namespace lacake::cpu
