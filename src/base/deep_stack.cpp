#include "base/deep_stack.h"

#include <fmt/format.h>
#include <pthread.h>

#include <cstring>
#include <exception>

#include "lacake/error.h"

namespace lacake {
namespace {

struct Call {
  const std::function<void()>& function;
  std::exception_ptr thrown = {};
};

void* make(void* call) {
  Call& c = *static_cast<Call*>(call);
  try {
    c.function();
  } catch (...) {
    c.thrown = std::current_exception();
  }
  return nullptr;
}

}  // namespace

void on_deep_stack(std::size_t stack_bytes, const std::function<void()>& call) {
  constexpr std::size_t kPage = 4096;
  Call made{call};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_t thread;
  int failed = pthread_attr_setstacksize(&attributes, (stack_bytes + kPage - 1) / kPage * kPage);
  if (failed == 0) failed = pthread_create(&thread, &attributes, &make, &made);
  pthread_attr_destroy(&attributes);
  if (failed != 0) {
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "stack",
                 .expected = fmt::format("{} bytes", stack_bytes),
                 .found = std::strerror(failed)});
  }
  pthread_join(thread, nullptr);
  if (made.thrown) std::rethrow_exception(made.thrown);
}

}  // namespace lacake
