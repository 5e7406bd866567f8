#include "place/host_place.h"

#include <fmt/format.h>

#include <cstring>
#include <latch>
#include <system_error>
#include <thread>
#include <vector>

#include "lacake/error.h"
#include "lacake/memory.h"
#include "model/device.h"

namespace lacake {
namespace {

// CPU functions are taken from the registry: where backends are loadable modules they cannot be linked.
template <typename Function>
Function cpu_function(const char* name) {
  return (Function)ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu_device()), name);
}

void allocate_from(ggml_gallocr_t allocator, Graph& graph) {
  if (ggml_gallocr_alloc_graph(allocator, graph.graph())) return;
  throw Error({.kind = Error::Kind::kCapacity, .subject = "compute buffer", .found = "the system refused the memory"});
}

// ggml ends the process where the system makes fewer threads than it asks for.
void require_threads(int n) {
  std::latch tried(1);
  std::vector<std::thread> made;
  int n_made = 1;  // this one
  try {
    for (made.reserve((std::size_t)n); n_made < n; ++n_made) made.emplace_back([&] { tried.wait(); });
  } catch (const std::system_error&) {
  }
  tried.count_down();
  for (std::thread& thread : made) thread.join();
  if (n_made == n) return;
  throw Error({.kind = Error::Kind::kCapacity,
               .subject = "threads",
               .expected = fmt::format("{} of them", n),
               .found = fmt::format("a system that makes {}", n_made)});
}

}  // namespace

HostPlace::HostPlace(int threads, attention::Method method)
    : threads_(threads), attention_(make_attention_nodes(method)) {
  require_threads(threads);
  backend_.reset(ggml_backend_dev_init(cpu_device(), nullptr));
  cpu_function<ggml_backend_set_n_threads_t>("ggml_backend_set_n_threads")(backend_.get(), threads);
  const auto new_pool = cpu_function<decltype(&ggml_threadpool_new)>("ggml_threadpool_new");
  const auto set_pool = cpu_function<decltype(&ggml_backend_cpu_set_threadpool)>("ggml_backend_cpu_set_threadpool");
  free_pool_ = cpu_function<decltype(&ggml_threadpool_free)>("ggml_threadpool_free");
  if (new_pool && set_pool && free_pool_) {
    ggml_threadpool_params params;
    ggml_threadpool_params_init(&params, threads);
    pool_ = new_pool(&params);
    set_pool(backend_.get(), pool_);
  }
  allocator_.reset(ggml_gallocr_new(buffer_type()));
}

HostPlace::~HostPlace() {
  if (pool_) free_pool_(pool_);
}

ggml_backend_buffer_type_t HostPlace::buffer_type() const {
  return ggml_backend_get_default_buffer_type(backend_.get());
}

std::uint64_t HostPlace::free_bytes() const {
  // ggml calls all of the machine's memory free.
  return free_memory_bytes();
}

ggml_backend_buffer_ptr HostPlace::wrap(void* memory, std::uint64_t bytes) const {
  return ggml_backend_buffer_ptr(ggml_backend_dev_buffer_from_host_ptr(cpu_device(), memory, (std::size_t)bytes, 0));
}

std::uint64_t HostPlace::measure(Graph& graph) const {
  ggml_gallocr_ptr allocator(ggml_gallocr_new(buffer_type()));
  std::size_t bytes = 0;
  ggml_gallocr_reserve_n_size(allocator.get(), graph.graph(), nullptr, nullptr, &bytes);
  return bytes;
}

void HostPlace::allocate(Graph& graph) { allocate_from(allocator_.get(), graph); }

void HostPlace::allocate_apart(Graph& graph) {
  graph.own_memory().reset(ggml_gallocr_new(buffer_type()));
  allocate_from(graph.own_memory().get(), graph);
}

void HostPlace::run(Graph& graph) {
  if (ggml_backend_graph_compute(backend_.get(), graph.graph()) == GGML_STATUS_SUCCESS) return;
  throw Error({.kind = Error::Kind::kCapacity, .subject = "compute", .found = "ggml could not run a graph"});
}

std::uint64_t HostPlace::graph_bytes() const { return ggml_gallocr_get_buffer_size(allocator_.get(), 0); }

void HostPlace::move(std::span<const RowRun> runs) {
  for (const RowRun& run : runs) {
    if (run.bytes > 0) std::memmove(run.to, run.from, run.bytes);  // of nothing, addresses may be null
  }
}

}  // namespace lacake
