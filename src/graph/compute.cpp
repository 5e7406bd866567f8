#include "graph/compute.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <stdexcept>

#include "lacake/error.h"
#include "model/device.h"

namespace lacake {
namespace {

// CPU functions are taken from the registry: where backends are loadable modules they cannot be linked.
template <typename Function>
Function cpu_function(const char* name) {
  return (Function)ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu_device()), name);
}

}  // namespace

Graph::Graph(std::size_t n_nodes) {
  // Leaves (weights, inputs) beside nodes: twice as many tensors at most.
  const std::size_t bytes = ggml_tensor_overhead() * n_nodes * 2 + ggml_graph_overhead_custom(n_nodes, false);
  context_.reset(ggml_init({.mem_size = bytes, .mem_buffer = nullptr, .no_alloc = true}));
  graph_ = ggml_new_graph_custom(context_.get(), n_nodes, false);
}

ggml_tensor* Graph::input(ggml_type type, std::int64_t ne0, std::int64_t ne1, std::int64_t ne2) {
  ggml_tensor* t = ggml_new_tensor_3d(context_.get(), type, ne0, ne1, ne2);
  ggml_set_input(t);
  // Part of the graph, and so given memory, even where no node reads it: positions of a layer that turns nothing.
  ggml_build_forward_expand(graph_, t);
  return t;
}

void Graph::output(ggml_tensor* tensor) {
  ggml_set_output(tensor);
  ggml_build_forward_expand(graph_, tensor);
}

// A graph of one node, whose threads take item after item. Nothing may be thrown through ggml: it waits here.
struct Compute::Division {
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

Compute::Compute(int threads) : threads_(threads) {
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

Compute::~Compute() {
  if (pool_) free_pool_(pool_);
}

ggml_backend_buffer_type_t Compute::buffer_type() const { return ggml_backend_get_default_buffer_type(backend_.get()); }

std::uint64_t Compute::measure(Graph& graph) const {
  ggml_gallocr_ptr allocator(ggml_gallocr_new(buffer_type()));
  std::size_t bytes = 0;
  ggml_gallocr_reserve_n_size(allocator.get(), graph.graph(), nullptr, nullptr, &bytes);
  return bytes;
}

void Compute::allocate(Graph& graph) { allocate_from(allocator_.get(), graph); }

void Compute::allocate_apart(Graph& graph) {
  graph.allocator_.reset(ggml_gallocr_new(buffer_type()));
  allocate_from(graph.allocator_.get(), graph);
}

void Compute::allocate_from(ggml_gallocr_t allocator, Graph& graph) {
  if (!ggml_gallocr_alloc_graph(allocator, graph.graph())) {
    throw Error(Error::Kind::kCapacity, "compute buffer: the system refused the memory");
  }
}

void Compute::run(Graph& graph) {
  if (ggml_backend_graph_compute(backend_.get(), graph.graph()) != GGML_STATUS_SUCCESS) {
    throw std::runtime_error("ggml could not run a graph");
  }
}

void Compute::each(std::size_t n, const Work& work) {
  if (!division_) {
    division_ = std::make_unique<Division>();
    Graph& graph = division_->graph;
    graph.output(ggml_custom_4d(graph.context(), GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0, Division::node,
                                GGML_N_TASKS_MAX, division_.get()));
    allocate_apart(graph);
  }
  division_->work = &work;
  division_->n = n;
  division_->next = 0;
  division_->failure = nullptr;
  if (n < 2 || threads_ == 1) {
    division_->take(0);
  } else {
    run(division_->graph);
  }
  if (division_->failure) std::rethrow_exception(division_->failure);
}

std::uint64_t Compute::bytes() const { return ggml_gallocr_get_buffer_size(allocator_.get(), 0); }

}  // namespace lacake
