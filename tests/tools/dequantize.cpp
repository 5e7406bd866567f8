#include "tools/dequantize.h"

#include <ggml.h>
#include <gguf.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <vector>

#include "ggml-cpp.h"

namespace lacake {
namespace {

constexpr std::uint32_t kAllF32 = 0;  // llama_ftype's LLAMA_FTYPE_ALL_F32

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw std::runtime_error(path + ": " + what);
}

// Both headers: that of the quantised file and that of the file to be.
struct Headers {
  explicit Headers(const std::string& path) {
    ggml_context* tensors = nullptr;
    from.reset(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = &tensors}));
    described.reset(tensors);
    if (!from) fail(path, "not a GGUF file");
    to.reset(gguf_init_empty());
    gguf_set_kv(to.get(), from.get());
    gguf_set_val_u32(to.get(), "general.file_type", kAllF32);
    for (std::int64_t i = 0; i < gguf_get_n_tensors(from.get()); ++i) {
      const char* name = gguf_get_tensor_name(from.get(), i);
      gguf_add_tensor(to.get(), ggml_get_tensor(described.get(), name));
      gguf_set_tensor_type(to.get(), name, GGML_TYPE_F32);
    }
  }

  std::uint64_t bytes_to_write() const {
    const std::int64_t last = gguf_get_n_tensors(to.get()) - 1;
    return gguf_get_meta_size(to.get()) + gguf_get_tensor_offset(to.get(), last) +
           padded(gguf_get_tensor_size(to.get(), last));
  }

  std::size_t padded(std::size_t bytes) const { return GGML_PAD(bytes, gguf_get_alignment(to.get())); }

  gguf_context_ptr from, to;
  ggml_context_ptr described;
};

void copy_tensor(const Headers& headers, std::int64_t i, std::ifstream& in, std::ofstream& out) {
  const ggml_tensor* t = ggml_get_tensor(headers.described.get(), gguf_get_tensor_name(headers.from.get(), i));
  std::vector<char> stored(ggml_nbytes(t));
  in.seekg((std::streamoff)(gguf_get_data_offset(headers.from.get()) + gguf_get_tensor_offset(headers.from.get(), i)));
  in.read(stored.data(), (std::streamsize)stored.size());
  const std::size_t n = (std::size_t)ggml_nelements(t);
  std::vector<char> plain(headers.padded(n * sizeof(float)));
  if (t->type == GGML_TYPE_F32) {
    std::copy(stored.begin(), stored.end(), plain.begin());
  } else {
    const ggml_to_float_t to_float = ggml_get_type_traits(t->type)->to_float;
    if (!to_float)
      throw std::runtime_error(std::string(t->name) + ": no way from " + ggml_type_name(t->type) + " to f32");
    to_float(stored.data(), (float*)plain.data(), (std::int64_t)n);
  }
  out.write(plain.data(), (std::streamsize)plain.size());
}

}  // namespace

void dequantize(const std::string& in, const std::string& out) {
  const Headers headers(in);
  const std::string unfinished = out + ".tmp";
  {
    std::ifstream from(in, std::ios::binary);
    std::ofstream to(unfinished, std::ios::binary | std::ios::trunc);
    std::vector<char> meta(gguf_get_meta_size(headers.to.get()));
    gguf_get_meta_data(headers.to.get(), meta.data());
    to.write(meta.data(), (std::streamsize)meta.size());
    for (std::int64_t i = 0; i < gguf_get_n_tensors(headers.from.get()); ++i) copy_tensor(headers, i, from, to);
    if (!from) fail(in, "cut short");
    if (!to.flush()) fail(unfinished, "cannot be written");
  }
  std::filesystem::rename(unfinished, out);
}

bool is_dequantized(const std::string& in, const std::string& out) {
  namespace fs = std::filesystem;
  return fs::exists(out) && fs::last_write_time(out) >= fs::last_write_time(in) &&
         fs::file_size(out) == Headers(in).bytes_to_write();
}

}  // namespace lacake
