#include "tools/file_parts.h"

#include <cstring>
#include <string_view>

#include "ggml-cpp.h"
#include "snapshot/parts.h"

namespace lacake {
namespace {

std::optional<FileParts::Value> value_of(const gguf_context* g, std::int64_t id) {
  switch (gguf_get_kv_type(g, id)) {
    case GGUF_TYPE_STRING:
      return std::string(gguf_get_val_str(g, id));
    case GGUF_TYPE_UINT64:
      return gguf_get_val_u64(g, id);
    case GGUF_TYPE_FLOAT64:
      return gguf_get_val_f64(g, id);
    case GGUF_TYPE_BOOL:
      return gguf_get_val_bool(g, id);
    default:
      return {};
  }
}

}  // namespace

std::optional<FileParts> take_apart(std::span<const std::byte> file) {
  const gguf_context_ptr g(gguf_init_from_buffer(file.data(), file.size(), {.no_alloc = true, .ctx = nullptr}));
  if (!g || gguf_get_n_tensors(g.get()) < 2) return {};
  FileParts all;
  for (std::int64_t i = 0; i < gguf_get_n_kv(g.get()); ++i) {
    const std::string key = gguf_get_key(g.get(), i);
    const std::optional<FileParts::Value> value = value_of(g.get(), i);
    if (value && key != "general.alignment") all.metadata.emplace_back(key, *value);
  }
  for (std::int64_t i = 0; i + 1 < gguf_get_n_tensors(g.get()); ++i) {
    const std::size_t begin = gguf_get_data_offset(g.get()) + gguf_get_tensor_offset(g.get(), i);
    const std::size_t size = gguf_get_tensor_size(g.get(), i);
    if (begin > file.size() || size > file.size() - begin) return {};
    const std::int64_t* shape = gguf_get_tensor_ne(g.get(), i);
    std::size_t n_dims = GGML_MAX_DIMS;
    while (n_dims > 1 && shape[n_dims - 1] == 1) --n_dims;
    const auto bytes = file.subspan(begin, size);
    all.parts.push_back({gguf_get_tensor_name(g.get(), i),
                         gguf_get_tensor_type(g.get(), i),
                         {shape, shape + n_dims},
                         {bytes.begin(), bytes.end()}});
  }
  return all;
}

std::string put_together(const FileParts& parts) {
  PartsWriter writer;
  for (const auto& entry : parts.metadata) {
    if (entry.first == "general.alignment") continue;  // ggml's own; it aborts for another type
    std::visit([&](const auto& v) { writer.set(entry.first, v); }, entry.second);
  }
  for (const EditedPart& part : parts.parts) {
    writer.add(part.name, part.type, part.shape, [&part](std::span<std::byte> to) {
      if (!to.empty()) std::memcpy(to.data(), part.bytes.data(), to.size());
    });
  }
  std::string file;
  writer.write_to([&](std::string_view bytes) { file += bytes; });
  return file;
}

}  // namespace lacake
