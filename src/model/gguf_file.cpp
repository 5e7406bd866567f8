#include "model/gguf_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lacake/error.h"
#include "text/llama_log.h"

namespace lacake {

namespace {

[[noreturn]] void fail_on(const std::string& path, const std::string& what) {
  throw Error(Error::Kind::kInput, path + ": " + what);
}

// NAME-00001-of-00003.gguf -> the same of another number; "" if the name is not of this form.
std::string sibling(const std::string& path, int number, int count) {
  const std::string ending = fmt::format("-{:05}-of-{:05}.gguf", 1, count);
  if (path.size() < ending.size() || path.substr(path.size() - ending.size()) != ending) return "";
  return path.substr(0, path.size() - ending.size()) + fmt::format("-{:05}-of-{:05}.gguf", number, count);
}

}  // namespace

Mapping::Mapping(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_on(path, fmt::format("cannot be opened: {}", std::strerror(errno)));
  struct stat info {};
  const bool regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  char magic[4] = {};
  const bool is_gguf = regular && ::pread(fd, magic, 4, 0) == 4 && std::memcmp(magic, "GGUF", 4) == 0;
  if (!is_gguf) {
    ::close(fd);
    fail_on(path, regular ? "not a GGUF file (its first four bytes are not \"GGUF\")" : "not a regular file");
  }
  void* mapped = ::mmap(nullptr, (std::size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  if (mapped == MAP_FAILED) fail_on(path, fmt::format("cannot be mapped into memory: {}", std::strerror(errno)));
  data_ = (std::byte*)mapped;
  bytes_ = (std::size_t)info.st_size;
}

Mapping::~Mapping() { ::munmap(data_, bytes_); }

GgufFile::GgufFile(std::string path, std::span<const MetadataOverride> overrides) : path_(std::move(path)) {
  open_part(path_);
  open_others();
  for (const MetadataOverride& o : overrides) apply(o);
}

void GgufFile::open_part(const std::string& path) {
  const LlamaErrors errors;  // ggml writes to standard error what it dislikes, unless someone listens
  Part part{.mapping = std::make_unique<Mapping>(path)};
  const Mapping& mapping = *part.mapping;
  ggml_context* tensors = nullptr;
  part.gguf.reset(gguf_init_from_buffer(mapping.data(), mapping.bytes(), {.no_alloc = true, .ctx = &tensors}));
  part.tensors.reset(tensors);
  if (!part.gguf) fail_on(path, fmt::format("its header is damaged or cut short: {}", errors.first()));
  const gguf_context* g = part.gguf.get();
  const std::size_t data_offset = gguf_get_data_offset(g);
  for (std::int64_t i = 0; i < gguf_get_n_tensors(g); ++i) {
    const std::uint64_t begin = data_offset + gguf_get_tensor_offset(g, i);
    const std::uint64_t size = gguf_get_tensor_size(g, i);
    const std::string name = gguf_get_tensor_name(g, i);
    if (begin > mapping.bytes() || size > mapping.bytes() - begin) {
      fail_on(path, fmt::format("cut short: tensor {} needs bytes {} to {}, the file has {}", name, begin, begin + size,
                                mapping.bytes()));
    }
    ggml_tensor* described = ggml_get_tensor(tensors, name.c_str());
    if (!places_.emplace(name, Place{described, parts_.size(), mapping.data() + begin}).second) {
      fail_on(path, fmt::format("tensor {}: is there twice", name));
    }
    names_.push_back(name);
  }
  parts_.push_back(std::move(part));
}

void GgufFile::open_others() {
  const int count = (int)integer_in("split.count", 0, 99999, 0);
  if (count <= 1) return;
  const auto number = integer_in("split.no", 0, count - 1);
  if (number != 0) {
    fail(fmt::format("split.no: this is part {} of {}, expected the first (-00001-of-{:05}.gguf)", number + 1, count,
                     count));
  }
  if (sibling(path_, 1, count).empty()) {
    fail(fmt::format("split.count: a model in {} files, expected a name that ends in -00001-of-{:05}.gguf", count,
                     count));
  }
  for (int i = 1; i < count; ++i) {
    const std::string path = sibling(path_, i + 1, count);
    open_part(path);
    const gguf_context* g = parts_.back().gguf.get();
    const std::int64_t id = gguf_find_key(g, "split.no");
    if (id < 0 || gguf_get_kv_type(g, id) != GGUF_TYPE_UINT16 || gguf_get_val_u16(g, id) != i) {
      fail_on(path, fmt::format("split.no: expected {}, the file's number in its name", i));
    }
  }
  const auto n_expected = integer_in("split.tensors.count", 0, INT32_MAX, (std::int64_t)n_tensors());
  if (n_expected != (std::int64_t)n_tensors()) {
    fail(fmt::format("split.tensors.count: expected {} tensors in {} files, found {}", n_expected, count, n_tensors()));
  }
}

void GgufFile::apply(const MetadataOverride& o) {
  gguf_context* g = metadata();
  const char* key = o.key.c_str();
  if (const auto* truth = std::get_if<bool>(&o.value)) {
    gguf_set_val_bool(g, key, *truth);
  } else if (const auto* whole = std::get_if<std::int64_t>(&o.value)) {
    gguf_set_val_i64(g, key, *whole);
  } else if (const auto* real = std::get_if<double>(&o.value)) {
    gguf_set_val_f64(g, key, *real);
  } else {
    gguf_set_val_str(g, key, std::get<std::string>(o.value).c_str());
  }
}

void GgufFile::fail(const std::string& what) const { throw Error(Error::Kind::kInput, path_ + ": " + what); }

std::optional<std::int64_t> GgufFile::integer(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_context* g = metadata();
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
  switch (gguf_get_kv_type(metadata(), id)) {
    case GGUF_TYPE_FLOAT32:
      return gguf_get_val_f32(metadata(), id);
    case GGUF_TYPE_FLOAT64:
      return gguf_get_val_f64(metadata(), id);
    default: {
      const auto value = integer(key);
      return value ? std::optional<double>((double)*value) : std::nullopt;
    }
  }
}

std::optional<std::string> GgufFile::string(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_type type = gguf_get_kv_type(metadata(), id);
  if (type != GGUF_TYPE_STRING) fail(fmt::format("{}: expected a string, found {}", key, gguf_type_name(type)));
  return gguf_get_val_str(metadata(), id);
}

std::optional<bool> GgufFile::boolean(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_type type = gguf_get_kv_type(metadata(), id);
  if (type != GGUF_TYPE_BOOL) fail(fmt::format("{}: expected true or false, found {}", key, gguf_type_name(type)));
  return gguf_get_val_bool(metadata(), id);
}

std::vector<std::int64_t> GgufFile::integers(const std::string& key) const {
  const std::int64_t id = find(key);
  const gguf_context* g = metadata();
  if (id < 0 || gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY) return {};
  const gguf_type type = gguf_get_arr_type(g, id);
  std::vector<std::int64_t> list(gguf_get_arr_n(g, id));
  const auto read = [&](auto one) {
    const auto* data = (const decltype(one)*)gguf_get_arr_data(g, id);
    std::copy(data, data + list.size(), list.begin());
  };
  if (type == GGUF_TYPE_BOOL || type == GGUF_TYPE_INT8) {
    read(std::int8_t{});
  } else if (type == GGUF_TYPE_UINT32) {
    read(std::uint32_t{});
  } else if (type == GGUF_TYPE_INT32) {
    read(std::int32_t{});
  } else {
    fail(fmt::format("{}: expected a list of integers, found one of {}", key, gguf_type_name(type)));
  }
  return list;
}

std::vector<const char*> GgufFile::strings(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_context* g = metadata();
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

ggml_tensor* GgufFile::tensor(const std::string& name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : found->second.described;
}

void GgufFile::forget(const ggml_tensor* tensor) const {
  static const std::size_t page = (std::size_t)::sysconf(_SC_PAGESIZE);
  const auto first = (std::uintptr_t)data(tensor);
  // Neighbours on the first and last page are read from the file again.
  const std::uintptr_t begin = first / page * page;
  ::madvise((void*)begin, first + ggml_nbytes(tensor) - begin, MADV_DONTNEED);
}

void GgufFile::forget_all() const {
  for (const Part& part : parts_) ::madvise(part.mapping->data(), part.mapping->bytes(), MADV_DONTNEED);
}

}  // namespace lacake
