#include "model/gguf_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "lacake/error.h"
#include "text/llama_log.h"

namespace lacake {

GgufFile::GgufFile(std::string path) : path_(std::move(path)) {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error(Error::Kind::kInput, fmt::format("{}: cannot be opened: {}", path_, std::strerror(errno)));
  struct stat info {};
  const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  char magic[4] = {};
  const bool is_gguf = regular && ::pread(fd, magic, 4, 0) == 4 && std::memcmp(magic, "GGUF", 4) == 0;
  if (!is_gguf) {
    ::close(fd);
    fail(regular ? "not a GGUF file (its first four bytes are not \"GGUF\")" : "not a regular file");
  }
  mapping_bytes_ = (std::size_t)info.st_size;
  void* mapped = ::mmap(nullptr, mapping_bytes_, PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  if (mapped == MAP_FAILED) {
    mapping_bytes_ = 0;
    fail(fmt::format("cannot be mapped into memory: {}", std::strerror(errno)));
  }
  mapping_ = (std::byte*)mapped;

  // A constructor that throws runs no destructor: the mapping must not outlive it.
  try {
    const LlamaErrors errors;  // ggml writes to standard error what it dislikes, unless someone listens
    ggml_context* tensors = nullptr;
    gguf_.reset(gguf_init_from_buffer(mapping_, mapping_bytes_, {.no_alloc = true, .ctx = &tensors}));
    tensors_.reset(tensors);
    if (!gguf_) fail(fmt::format("its header is damaged or cut short: {}", errors.first()));
    const std::size_t data_offset = gguf_get_data_offset(gguf_.get());
    for (std::int64_t i = 0; i < gguf_get_n_tensors(gguf_.get()); ++i) {
      const std::uint64_t begin = data_offset + gguf_get_tensor_offset(gguf_.get(), i);
      const std::uint64_t size = gguf_get_tensor_size(gguf_.get(), i);
      if (begin > mapping_bytes_ || size > mapping_bytes_ - begin) {
        fail(fmt::format("cut short: tensor {} needs bytes {} to {}, the file has {}",
                         gguf_get_tensor_name(gguf_.get(), i), begin, begin + size, mapping_bytes_));
      }
    }
  } catch (...) {
    ::munmap(mapping_, mapping_bytes_);
    throw;
  }
}

GgufFile::~GgufFile() { ::munmap(mapping_, mapping_bytes_); }

void GgufFile::fail(const std::string& what) const { throw Error(Error::Kind::kInput, path_ + ": " + what); }

std::optional<std::int64_t> GgufFile::integer(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_context* g = gguf_.get();
  switch (gguf_get_kv_type(g, id)) {
    case GGUF_TYPE_UINT8:
      return gguf_get_val_u8(g, id);
    case GGUF_TYPE_INT8:
      return gguf_get_val_i8(g, id);
    case GGUF_TYPE_UINT16:
      return gguf_get_val_u16(g, id);
    case GGUF_TYPE_INT16:
      return gguf_get_val_i16(g, id);
    case GGUF_TYPE_UINT32:
      return gguf_get_val_u32(g, id);
    case GGUF_TYPE_INT32:
      return gguf_get_val_i32(g, id);
    case GGUF_TYPE_INT64:
      return gguf_get_val_i64(g, id);
    case GGUF_TYPE_UINT64: {
      const std::uint64_t value = gguf_get_val_u64(g, id);
      return value > INT64_MAX ? INT64_MAX : (std::int64_t)value;
    }
    default:
      fail(fmt::format("{}: expected an integer, found {}", key, gguf_type_name(gguf_get_kv_type(g, id))));
  }
}

std::optional<double> GgufFile::number(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  switch (gguf_get_kv_type(gguf_.get(), id)) {
    case GGUF_TYPE_FLOAT32:
      return gguf_get_val_f32(gguf_.get(), id);
    case GGUF_TYPE_FLOAT64:
      return gguf_get_val_f64(gguf_.get(), id);
    default: {
      const auto value = integer(key);
      return value ? std::optional<double>((double)*value) : std::nullopt;
    }
  }
}

std::optional<std::string> GgufFile::string(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_type type = gguf_get_kv_type(gguf_.get(), id);
  if (type != GGUF_TYPE_STRING) fail(fmt::format("{}: expected a string, found {}", key, gguf_type_name(type)));
  return gguf_get_val_str(gguf_.get(), id);
}

std::vector<const char*> GgufFile::strings(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_context* g = gguf_.get();
  if (gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g, id) != GGUF_TYPE_STRING) {
    fail(fmt::format("{}: expected a list of strings", key));
  }
  std::vector<const char*> list(gguf_get_arr_n(g, id));
  for (std::size_t i = 0; i < list.size(); ++i) list[i] = gguf_get_arr_str(g, id, i);
  return list;
}

std::int64_t GgufFile::integer_in(const std::string& key, std::int64_t min, std::int64_t max,
                                  std::optional<std::int64_t> default_value) const {
  const auto value = integer(key);
  if (!value && default_value) return *default_value;
  if (!value) fail(fmt::format("{}: missing, expected an integer", key));
  if (*value < min || *value > max) fail(fmt::format("{}: expected {} to {}, found {}", key, min, max, *value));
  return *value;
}

double GgufFile::number_in(const std::string& key, double min, double max, std::optional<double> default_value) const {
  const auto value = number(key);
  if (!value && default_value) return *default_value;
  if (!value) fail(fmt::format("{}: missing, expected a number", key));
  if (!(*value >= min && *value <= max)) fail(fmt::format("{}: expected {} to {}, found {}", key, min, max, *value));
  return *value;
}

ggml_tensor* GgufFile::tensor(const std::string& name) const { return ggml_get_tensor(tensors_.get(), name.c_str()); }

std::vector<std::string> GgufFile::tensor_names() const {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < (std::int64_t)n_tensors(); ++i) names.push_back(gguf_get_tensor_name(gguf_.get(), i));
  return names;
}

std::byte* GgufFile::data(const ggml_tensor* tensor) const {
  const std::int64_t id = gguf_find_tensor(gguf_.get(), tensor->name);
  return mapping_ + gguf_get_data_offset(gguf_.get()) + gguf_get_tensor_offset(gguf_.get(), id);
}

void GgufFile::forget(const ggml_tensor* tensor) const {
  static const std::size_t page = (std::size_t)::sysconf(_SC_PAGESIZE);
  const auto first = (std::uintptr_t)data(tensor);
  const std::uintptr_t begin = (first + page - 1) / page * page;
  const std::uintptr_t end = (first + ggml_nbytes(tensor)) / page * page;
  if (end > begin) ::madvise((void*)begin, end - begin, MADV_DONTNEED);
}

}  // namespace lacake
