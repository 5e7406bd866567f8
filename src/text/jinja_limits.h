#pragma once

#include <cstddef>
#include <cstdint>

namespace lacake {

// What a chat template may use while it runs: templates come from files of strangers, and one that loops for ever must
// not take the process with it. The Jinja engine is compiled so that it asks jinja_step() before each step and
// jinja_spend() for the bytes of strings that it joins (src/text/jinja_hooks.h).
//
// While one of these lives, its thread's templates are limited; without one they are not. May not be nested.
class JinjaLimits {
 public:
  // Steps take a few microseconds. A message needs some hundred.
  explicit JinjaLimits(std::size_t n_messages, std::size_t input_bytes);
  ~JinjaLimits();
  JinjaLimits(const JinjaLimits&) = delete;
  JinjaLimits& operator=(const JinjaLimits&) = delete;

 private:
  friend void jinja_step();
  friend std::size_t jinja_spend(std::size_t bytes);

  std::uint64_t steps_left_;
  std::uint64_t bytes_left_;
  const char* stack_;  // where it began: the engine calls itself
};

// Throw std::runtime_error where the limit is passed.
void jinja_step();
std::size_t jinja_spend(std::size_t bytes);  // returns bytes

}  // namespace lacake
