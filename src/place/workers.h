#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "place/host_place.h"

namespace lacake {

// Divides work that is no graph among the host's threads: those that run its graphs, so that none compete.
class Workers {
 public:
  // Borrows the place.
  explicit Workers(HostPlace& place);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int threads() const { return place_.threads(); }
  // Calls work(i, thread) once for each i below n, in any order, on threads 0 .. threads() - 1. Of what they throw, the
  // lowest i's comes out when all have ended.
  using Work = std::function<void(std::size_t i, int thread)>;
  void each(std::size_t n, const Work& work);

 private:
  HostPlace& place_;
  struct Division;
  std::unique_ptr<Division> division_;
};

}  // namespace lacake
