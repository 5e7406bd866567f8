#include "models/tiny_adapter.h"

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <random>
#include <stdexcept>

#include "ggml-cpp.h"

namespace lacake::models {

AdapterFile::AdapterFile(const std::string& model_path, int rank, float alpha, unsigned seed,
                         const std::function<void(gguf_context*)>& edit) {
  static std::atomic<int> count = 0;
  path_ = (std::filesystem::temp_directory_path() /
           ("lacake-lora-" + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".gguf"))
              .string();
  ggml_context* described = nullptr;
  const gguf_context_ptr model(gguf_init_from_file(model_path.c_str(), {.no_alloc = true, .ctx = &described}));
  const ggml_context_ptr tensors(described);
  const gguf_context_ptr file(gguf_init_empty());
  gguf_set_val_str(file.get(), "general.type", "adapter");
  gguf_set_val_str(file.get(), "adapter.type", "lora");
  gguf_set_val_str(file.get(), "general.architecture",
                   gguf_get_val_str(model.get(), gguf_find_key(model.get(), "general.architecture")));
  gguf_set_val_f32(file.get(), "adapter.lora.alpha", alpha);

  const ggml_context_ptr context(
      ggml_init({.mem_size = std::size_t{8} << 20, .mem_buffer = nullptr, .no_alloc = false}));
  std::mt19937 random(seed);
  const auto add = [&](const std::string& name, std::int64_t n_in, std::int64_t n_out) {
    ggml_tensor* t = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, n_in, n_out);
    ggml_set_name(t, name.c_str());
    for (std::int64_t i = 0; i < n_in * n_out; ++i) {
      ((float*)t->data)[i] = ((float)(random() >> 8) * 0x1p-23f - 1) / std::sqrt((float)n_in);
    }
    gguf_add_tensor(file.get(), t);
  };
  for (ggml_tensor* t = ggml_get_first_tensor(described); t; t = ggml_get_next_tensor(described, t)) {
    const std::string name = t->name;
    if (ggml_n_dims(t) != 2 || !name.starts_with("blk.") || !name.ends_with(".weight")) continue;
    add(name + ".lora_a", t->ne[0], rank);
    add(name + ".lora_b", rank, t->ne[1]);
  }
  if (edit) edit(file.get());
  if (!gguf_write_to_file(file.get(), path_.c_str(), /*only_meta*/ false)) {
    throw std::runtime_error(path_ + ": cannot be written");
  }
}

AdapterFile::~AdapterFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace lacake::models
