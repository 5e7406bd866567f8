#include "place/workers.h"

#include <atomic>
#include <exception>
#include <mutex>

namespace lacake {

// A graph of one node, whose threads take item after item. Nothing may be thrown through ggml: it waits here.
struct Workers::Division {
  Graph graph{1};
  const Work* work = nullptr;
  std::size_t n = 0;
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;  // of the lowest item that failed
  std::size_t failed = 0;

  void take(int thread) {
    for (std::size_t i; (i = next++) < n;) {
      try {
        (*work)(i, thread);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure || i < failed) failure = std::current_exception(), failed = i;
      }
    }
  }
  static void node(ggml_tensor*, int thread, int, void* userdata) { ((Division*)userdata)->take(thread); }
};

Workers::Workers(HostPlace& place) : place_(place) {}
Workers::~Workers() = default;

void Workers::each(std::size_t n, const Work& work) {
  if (!division_) {
    division_ = std::make_unique<Division>();
    Graph& graph = division_->graph;
    graph.output(ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0, Division::node,
                                GGML_N_TASKS_MAX, division_.get()));
    place_.allocate_apart(graph);
  }
  division_->work = &work;
  division_->n = n;
  division_->next = 0;
  division_->failure = nullptr;
  if (n < 2 || threads() == 1) {
    division_->take(0);
  } else {
    place_.run(division_->graph);
  }
  if (division_->failure) std::rethrow_exception(division_->failure);
}

}  // namespace lacake
