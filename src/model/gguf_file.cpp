#include "model/gguf_file.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "lacake/error.h"
#include "text/llama_log.h"

namespace lacake {

namespace {

[[noreturn]] void fail_on(const std::string& path, const std::string& found) {
  throw Error({.subject = path, .found = found});
}

[[noreturn]] void fail_on(const std::string& path, const std::string& key, const std::string& expected,
                          const std::string& found, const std::string& remedy = "") {
  throw Error({.subject = path + ": " + key, .expected = expected, .found = found, .remedy = remedy});
}

// What people have given instead of a GGUF file, by its first bytes.
const char* kind_of(std::string_view bytes, std::string& remedy) {
  constexpr const char* kConvert = "convert_hf_to_gguf.py of llama.cpp makes GGUF of it";
  if (bytes.empty()) return "an empty file";
  if (bytes.find_first_not_of('\0') == std::string_view::npos) {
    remedy = "was it downloaded to its end?";
    return "a file that begins with zeros";
  }
  if (bytes.starts_with("version https://git-lfs")) {
    remedy = "`git lfs pull` fetches the file itself";
    return "a Git LFS pointer";
  }
  if (bytes.starts_with("<!") || bytes.starts_with("<html")) return "a web page";
  remedy = kConvert;
  // Its header is JSON behind a length of eight bytes.
  if (bytes.size() > 9 && bytes[8] == '{' && bytes[7] == 0) return "a safetensors file";
  if (bytes.starts_with("PK\3\4")) return "a zip archive, as PyTorch writes";
  for (const char* magic : {"lmgg", "fmgg", "tjgg", "algg"}) {  // ggml, ggmf, ggjt, ggla: little-endian
    if (bytes.starts_with(magic)) return "a GGML file from before GGUF";
  }
  remedy = "";
  return "another (its first four bytes are not \"GGUF\")";
}

// Mapped, and known to be no other kind of file.
std::unique_ptr<MappedFile> map_gguf(const std::string& path) {
  constexpr const char* kExpected = "a GGUF file";
  auto mapping = std::make_unique<MappedFile>(path, kExpected);
  const auto begin = mapping->bytes().first(std::min<std::size_t>(mapping->bytes().size(), 64));
  const std::string_view bytes((const char*)begin.data(), begin.size());
  if (bytes.starts_with("GGUF")) return mapping;
  Error::Fields fields = {.subject = path, .expected = kExpected};
  fields.found = kind_of(bytes, fields.remedy);
  throw Error(fields);
}

}  // namespace

std::vector<std::string> model_files(const std::string& path) {
  const auto ending = [](int number, int count) { return fmt::format("-{:05}-of-{:05}.gguf", number, count); };
  const std::size_t at = path.size() - std::min(path.size(), ending(1, 1).size());
  constexpr std::string_view kFirst = "-00001-of-";
  int count = 0;
  std::from_chars(path.data() + std::min(at + kFirst.size(), path.size()), path.data() + path.size(), count);
  if (count < 1 || path.substr(at) != ending(1, count)) return {path};
  std::vector<std::string> files;
  for (int i = 1; i <= count; ++i) files.push_back(path.substr(0, at) + ending(i, count));
  return files;
}

GgufFile::GgufFile(std::string path, std::span<const MetadataOverride> overrides) : path_(std::move(path)) {
  open_part(path_);
  open_others();
  for (const MetadataOverride& o : overrides) {
    apply(o);
    if (!o.key.starts_with("tokenizer.")) unread_.insert(o.key);
  }
}

void GgufFile::open_part(const std::string& path) {
  const LlamaErrors errors;  // ggml writes to standard error what it dislikes, unless someone listens
  Part part{.mapping = map_gguf(path)};
  const std::span<const std::byte> mapping = part.mapping->bytes();
  ggml_context* tensors = nullptr;
  part.gguf.reset(gguf_init_from_buffer(mapping.data(), mapping.size(), {.no_alloc = true, .ctx = &tensors}));
  part.tensors.reset(tensors);
  if (!part.gguf) fail_on(path, fmt::format("its header is damaged or cut short: {}", errors.first()));
  const gguf_context* g = part.gguf.get();
  const std::size_t data_offset = gguf_get_data_offset(g);
  for (std::int64_t i = 0; i < gguf_get_n_tensors(g); ++i) {
    const std::uint64_t begin = data_offset + gguf_get_tensor_offset(g, i);
    const std::uint64_t size = gguf_get_tensor_size(g, i);
    const std::string name = gguf_get_tensor_name(g, i);
    if (begin > mapping.size() || size > mapping.size() - begin) {
      fail_on(path, "tensor " + name, fmt::format("bytes {} to {}", begin, begin + size),
              fmt::format("a file of {} bytes", mapping.size()), "it is cut short");
    }
    ggml_tensor* described = ggml_get_tensor(tensors, name.c_str());
    if (!places_.emplace(name, Place{described, parts_.size(), (std::byte*)mapping.data() + begin}).second) {
      fail_on(path, "tensor " + name, "one of this name", "two");
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
    fail("split.no", fmt::format("the first part (-00001-of-{:05}.gguf)", count),
         fmt::format("part {} of {}", number + 1, count));
  }
  const std::vector<std::string> files = model_files(path_);
  if ((int)files.size() != count) {
    fail("split.count", fmt::format("a file name that ends in -00001-of-{:05}.gguf, to find the others by", count),
         fmt::format("{} parts and another name", count));
  }
  for (int i = 1; i < count; ++i) {
    const std::string& path = files[(std::size_t)i];
    if (::access(path.c_str(), F_OK) != 0) {
      throw Error({.subject = path,
                   .found = fmt::format("cannot be opened: {}", std::strerror(errno)),
                   .remedy = fmt::format("it is part {} of the {} of {}", i + 1, count, path_)});
    }
    open_part(path);
    const gguf_context* g = parts_.back().gguf.get();
    const std::int64_t id = gguf_find_key(g, "split.no");
    if (id < 0 || gguf_get_kv_type(g, id) != GGUF_TYPE_UINT16 || gguf_get_val_u16(g, id) != i) {
      fail_on(path, "split.no", fmt::format("{}, which its name says", i), "another");
    }
  }
  const auto n_expected = integer_in("split.tensors.count", 0, INT32_MAX, (std::int64_t)n_tensors());
  if (n_expected != (std::int64_t)n_tensors()) {
    fail("split.tensors.count", fmt::format("{} tensors in {} files", n_expected, count),
         fmt::format("{}", n_tensors()));
  }
}

void GgufFile::apply(const MetadataOverride& o) {
  if (o.key == GGUF_KEY_GENERAL_ALIGNMENT) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = o.key,
                 .expected = "a key that says something of the model",
                 .found = "how the file is laid out, which it alone can say"});
  }
  gguf_context* g = parts_[0].gguf.get();
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

std::int64_t GgufFile::find(const std::string& key) const {
  unread_.erase(key);
  return gguf_find_key(metadata(), key.c_str());
}

void GgufFile::check_overrides_read() const {
  if (unread_.empty()) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "override_kv",
               .expected = "a key that is read of a model of this architecture",
               .found = *unread_.begin()});
}

void GgufFile::fail(const std::string& found) const { fail_on(path_, found); }
void GgufFile::fail(const std::string& key, const std::string& expected, const std::string& found,
                    const std::string& remedy) const {
  fail_on(path_, key, expected, found, remedy);
}

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
      fail(key, "an integer", gguf_type_name(gguf_get_kv_type(g, id)));
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
  if (type != GGUF_TYPE_STRING) fail(key, "a string", gguf_type_name(type));
  return gguf_get_val_str(metadata(), id);
}

std::optional<bool> GgufFile::boolean(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_type type = gguf_get_kv_type(metadata(), id);
  if (type != GGUF_TYPE_BOOL) fail(key, "true or false", gguf_type_name(type));
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
    fail(key, "a list of integers", fmt::format("one of {}", gguf_type_name(type)));
  }
  return list;
}

std::vector<const char*> GgufFile::strings(const std::string& key) const {
  const std::int64_t id = find(key);
  if (id < 0) return {};
  const gguf_context* g = metadata();
  if (gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g, id) != GGUF_TYPE_STRING) {
    fail(key, "a list of strings", gguf_type_name(gguf_get_kv_type(g, id)));
  }
  std::vector<const char*> list(gguf_get_arr_n(g, id));
  for (std::size_t i = 0; i < list.size(); ++i) list[i] = gguf_get_arr_str(g, id, i);
  return list;
}

std::int64_t GgufFile::integer_in(const std::string& key, std::int64_t min, std::int64_t max,
                                  std::optional<std::int64_t> default_value) const {
  const auto value = integer(key);
  if (!value && default_value) return *default_value;
  if (!value) fail(key, "an integer", "none");
  if (*value < min || *value > max) fail(key, fmt::format("{} to {}", min, max), fmt::format("{}", *value));
  return *value;
}

double GgufFile::number_in(const std::string& key, double min, double max, std::optional<double> default_value) const {
  const auto value = number(key);
  if (!value && default_value) return *default_value;
  if (!value) fail(key, "a number", "none");
  if (!(*value >= min && *value <= max)) fail(key, fmt::format("{} to {}", min, max), fmt::format("{}", *value));
  return *value;
}

ggml_tensor* GgufFile::tensor(const std::string& name) const {
  const auto found = places_.find(name);
  return found == places_.end() ? nullptr : found->second.described;
}

void GgufFile::forget(const ggml_tensor* tensor) const {
  forget({(const std::byte*)data(tensor), ggml_nbytes(tensor)});
}

void GgufFile::forget(std::span<const std::byte> bytes) const {
  static const std::size_t page = (std::size_t)::sysconf(_SC_PAGESIZE);
  const auto first = (std::uintptr_t)bytes.data();
  // Neighbours on the first and last page are read from the file again.
  const std::uintptr_t begin = first / page * page;
  ::madvise((void*)begin, first + bytes.size() - begin, MADV_DONTNEED);
}

void GgufFile::forget_all() const {
  for (const Part& part : parts_) {
    const std::span<const std::byte> bytes = part.mapping->bytes();
    ::madvise((void*)bytes.data(), bytes.size(), MADV_DONTNEED);
  }
}

}  // namespace lacake
