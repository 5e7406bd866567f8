#pragma once

#include <memory>

#include "attention/attention_method.h"
#include "ggml-cpu.h"
#include "place/place.h"

namespace lacake {

// The host: ggml's CPU backend with a pool of threads that sleeps between graphs, and the process's own memory.
class HostPlace final : public Place {
 public:
  explicit HostPlace(int threads, attention::Method = attention::Method::kAuto);
  ~HostPlace() override;
  HostPlace(const HostPlace&) = delete;
  HostPlace& operator=(const HostPlace&) = delete;

  ggml_backend_buffer_type_t buffer_type() const override;
  std::uint64_t free_bytes() const override;
  ggml_backend_buffer_ptr wrap(void* memory, std::uint64_t bytes) const override;
  int threads() const override { return threads_; }
  std::uint64_t measure(Graph&) const override;
  void allocate(Graph&) override;
  void allocate_apart(Graph&) override;
  void run(Graph&) override;
  std::uint64_t graph_bytes() const override;
  const AttentionNodes& attention() const override { return *attention_; }
  void move(std::span<const RowRun>) override;

 private:
  int threads_;
  std::unique_ptr<AttentionNodes> attention_;
  ggml_backend_ptr backend_;
  ggml_threadpool_t pool_ = nullptr;
  void (*free_pool_)(ggml_threadpool_t) = nullptr;
  ggml_gallocr_ptr allocator_;
};

}  // namespace lacake
