#include "text/jinja_limits.h"

#include <cassert>
#include <stdexcept>

namespace lacake {
namespace {

constexpr std::uint64_t kSteps = 300'000;
constexpr std::uint64_t kStepsPerMessage = 4'000;
constexpr std::uint64_t kBytes = 64ULL << 20;
constexpr std::uint64_t kBytesPerMessage = 256ULL << 10;  // a value of the engine takes 250 bytes
constexpr std::uint64_t kCopiesOfInput = 64;              // each block around a text copies it
constexpr std::ptrdiff_t kStackBytes = 1 << 20;

thread_local JinjaLimits* limits = nullptr;

}  // namespace

JinjaLimits::JinjaLimits(std::size_t n_messages, std::size_t input_bytes)
    : steps_left_(kSteps + kStepsPerMessage * n_messages),
      bytes_left_(kBytes + kBytesPerMessage * n_messages + kCopiesOfInput * input_bytes),
      stack_(static_cast<const char*>(__builtin_frame_address(0))) {
  assert(limits == nullptr);
  limits = this;
}

JinjaLimits::~JinjaLimits() { limits = nullptr; }

void jinja_step() {
  if (limits == nullptr) return;
  if (limits->steps_left_ == 0) throw std::runtime_error("takes too many steps");
  --limits->steps_left_;
  // Stacks grow downwards on all machines that we run on.
  const std::ptrdiff_t depth = limits->stack_ - static_cast<const char*>(__builtin_frame_address(0));
  if (depth > kStackBytes) throw std::runtime_error("calls itself too often");
}

std::size_t jinja_spend(std::size_t bytes) {
  if (limits == nullptr) return bytes;
  if (limits->bytes_left_ < bytes) {
    limits->bytes_left_ = 0;
    throw std::runtime_error("writes too much text");
  }
  limits->bytes_left_ -= bytes;
  return bytes;
}

}  // namespace lacake
