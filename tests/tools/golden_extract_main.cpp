// lacake_golden_extract FROM HEAD CHOICE: two small files of a golden file of frontier methods (tests/golden), for the
// repository.
//   HEAD    inputs and what was measured of the first KV head in the first layer
//   CHOICE  what was measured of all, and what was kept by it, without inputs

#include <gguf.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "ggml-cpp.h"

namespace {

bool begins(const std::string& name, const char* with) { return name.rfind(with, 0) == 0; }

// Of which the first KV head's come first, layer by layer.
std::optional<std::int64_t> of_first_head(const std::string& name, std::int64_t group) {
  if (name == "q_pre" || name == "q_last") return group;
  if (name == "k" || name == "v" || begins(name, "keydiff.score") || begins(name, "keydiff.kept") ||
      begins(name, "ea.score") || begins(name, "ea_eps.score") || begins(name, "ea.kept") || name == "ldk.row_max" ||
      name == "ldk.mean_attn") {
    return 1;
  }
  return std::nullopt;
}

bool of_choice(const std::string& name) {
  for (const char* with : {"keydiff.score", "keydiff.kept", "ea.score", "ea_eps.score", "ea.kept", "ea_ada",
                           "ea_eps_ada", "ldk.", "dk."}) {
    if (begins(name, with)) return true;
  }
  return false;
}

using Shape = std::function<bool(const ggml_tensor* from, std::int64_t* ne)>;  // false: left out

bool write(const gguf_context* from, ggml_context* tensors, const char* path, const Shape& shape,
           const std::function<void(gguf_context*)>& edit) {
  ggml_context_ptr context(ggml_init({.mem_size = std::size_t{64} << 20, .mem_buffer = nullptr, .no_alloc = false}));
  gguf_context_ptr to(gguf_init_empty());
  gguf_set_kv(to.get(), from);
  edit(to.get());
  for (std::int64_t i = 0; i < gguf_get_n_tensors(from); ++i) {
    const ggml_tensor* t = ggml_get_tensor(tensors, gguf_get_tensor_name(from, i));
    std::int64_t ne[GGML_MAX_DIMS];
    std::copy_n(t->ne, GGML_MAX_DIMS, ne);
    if (!shape(t, ne)) continue;
    ggml_tensor* part = ggml_new_tensor(context.get(), t->type, ggml_n_dims(t), ne);
    ggml_set_name(part, t->name);
    std::memcpy(part->data, t->data, ggml_nbytes(part));
    gguf_add_tensor(to.get(), part);
  }
  return gguf_write_to_file(to.get(), path, /*only_meta*/ false);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s FROM HEAD CHOICE\n", argv[0]);
    return 2;
  }
  ggml_context* read = nullptr;
  const gguf_context_ptr from(gguf_init_from_file(argv[1], {.no_alloc = false, .ctx = &read}));
  const ggml_context_ptr tensors(read);
  if (!from) {
    std::fprintf(stderr, "%s: not a GGUF file\n", argv[1]);
    return 1;
  }
  const auto number = [&](const char* key) {
    return (std::int64_t)gguf_get_val_u32(from.get(), gguf_find_key(from.get(), key));
  };
  const std::int64_t group = number("n_head") / number("n_head_kv");
  const auto head = [&](const ggml_tensor* t, std::int64_t* ne) {
    const auto n = of_first_head(t->name, group);
    if (!n) return false;
    const int n_dims = ggml_n_dims(t);
    ne[n_dims - 1] = 1;
    ne[n_dims - 2] = *n;
    return true;
  };
  const auto one_head = [&](gguf_context* to) {
    gguf_set_val_u32(to, "n_layer", 1);
    gguf_set_val_u32(to, "n_head", (std::uint32_t)group);
    gguf_set_val_u32(to, "n_head_kv", 1);
  };
  const auto choice = [](const ggml_tensor* t, std::int64_t*) { return of_choice(t->name); };
  const bool written = write(from.get(), tensors.get(), argv[2], head, one_head) &&
                       write(from.get(), tensors.get(), argv[3], choice, [](gguf_context*) {});
  if (!written) std::fprintf(stderr, "%s: cannot be written\n", argv[2]);
  return written ? 0 : 1;
}
