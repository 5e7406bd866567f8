#include "snapshot/parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#define XXH_INLINE_ALL
#include "base/files.h"
#include "base/mapped_file.h"
#include "lacake/error.h"
#include "text/llama_log.h"
#include "xxhash.h"

namespace lacake {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are little-endian");

constexpr const char* kChecksums = "checksums";
constexpr std::uint64_t kMagic = 0x564b656b6163616c;  // "lacakeKV"
constexpr std::size_t kRow = 2 * sizeof(std::uint64_t);
constexpr std::size_t kAlignment = GGUF_DEFAULT_ALIGNMENT;

using Row = std::array<std::uint64_t, 2>;
static_assert(sizeof(Row) == kRow && kAlignment == 2 * kRow);

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

Row sum_of(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

// Of the rows before the last and of the last one's magic.
std::uint64_t sum_of_rows(std::span<const std::byte> rows) {
  return XXH3_64bits_withSeed(rows.data(), rows.size(), kMagic);
}

// Rows for so many parts, those of the end included: an even number.
std::size_t n_rows_for(std::size_t n_parts) { return (1 + n_parts + 2 + 1) / 2 * 2; }

std::uint64_t bytes_of(ggml_type type, std::span<const std::int64_t> shape) {
  std::uint64_t bytes = ggml_row_size(type, shape[0]);
  for (const std::int64_t n : shape.subspan(1)) bytes *= (std::uint64_t)n;
  return bytes;
}

std::string_view view(std::span<const std::byte> bytes) { return {(const char*)bytes.data(), bytes.size()}; }

// The descriptions that gguf takes are ggml's tensors, whose names and shapes it copies.
void describe(gguf_context* metadata, const std::string& name, ggml_type type, std::span<const std::int64_t> shape) {
  assert(name.size() < GGML_MAX_NAME && shape.size() <= GGML_MAX_DIMS);
  const ggml_context_ptr context(
      ggml_init({.mem_size = ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  ggml_tensor* tensor = ggml_new_tensor(context.get(), type, (int)shape.size(), shape.data());
  ggml_set_name(tensor, name.c_str());
  gguf_add_tensor(metadata, tensor);
}

// What a file's last bytes say, read before anything else is believed.
struct Ending {
  std::uint64_t metadata_bytes = 0;
  std::size_t n_parts = 0;
  std::span<const std::byte> rows;  // without the last two
};

// Nothing where the file does not end so.
std::optional<Ending> ending_of(std::span<const std::byte> file) {
  if (file.size() < 2 * kAlignment || file.size() % kAlignment != 0) return {};
  Row last, before;
  std::memcpy(&last, file.last(kRow).data(), kRow);
  std::memcpy(&before, file.last(2 * kRow).data(), kRow);
  if (last[1] != kMagic || before[1] > file.size() / kRow) return {};
  const std::size_t n_parts = before[1], n_rows = n_rows_for(n_parts);
  if (n_rows * kRow > file.size() || before[0] > file.size() - n_rows * kRow) return {};
  return Ending{before[0], n_parts, file.last(n_rows * kRow).first((n_rows - 2) * kRow)};
}

std::uint64_t sum_of_ending(std::span<const std::byte> file, std::size_t n_parts) {
  const std::size_t n_bytes = n_rows_for(n_parts) * kRow;
  return sum_of_rows(file.last(n_bytes).first(n_bytes - kRow));
}

}  // namespace

PartsWriter::PartsWriter() : metadata_(gguf_init_empty()) {}

void PartsWriter::set(const std::string& key, const std::string& value) {
  // gguf keeps strings as C has them.
  assert(value.find('\0') == value.npos);
  gguf_set_val_str(metadata_.get(), key.c_str(), value.c_str());
}
void PartsWriter::set(const std::string& key, std::uint64_t value) {
  gguf_set_val_u64(metadata_.get(), key.c_str(), value);
}
void PartsWriter::set(const std::string& key, double value) { gguf_set_val_f64(metadata_.get(), key.c_str(), value); }
void PartsWriter::set(const std::string& key, bool value) { gguf_set_val_bool(metadata_.get(), key.c_str(), value); }

void PartsWriter::add(const std::string& name, ggml_type type, std::span<const std::int64_t> shape, Fill fill) {
  parts_.push_back({name, type, {shape.begin(), shape.end()}, bytes_of(type, shape), std::move(fill)});
}

void PartsWriter::add_integers(const std::string& name, std::span<const std::int64_t> values) {
  const auto extremes = std::minmax_element(values.begin(), values.end());
  const auto fits = [&]<class Number>(Number) {
    return values.empty() || (*extremes.first >= std::numeric_limits<Number>::min() &&
                              *extremes.second <= std::numeric_limits<Number>::max());
  };
  if (fits(std::int8_t{})) return add(name, std::vector<std::int8_t>(values.begin(), values.end()));
  if (fits(std::int16_t{})) return add(name, std::vector<std::int16_t>(values.begin(), values.end()));
  if (fits(std::int32_t{})) return add(name, std::vector<std::int32_t>(values.begin(), values.end()));
  add(name, std::vector<std::int64_t>(values.begin(), values.end()));
}

void PartsWriter::add_varints(const std::string& name, std::span<const std::int64_t> values) {
  std::vector<std::int8_t> bytes;
  for (const std::int64_t value : values) {
    std::uint64_t left = ((std::uint64_t)value << 1) ^ (std::uint64_t)(value >> 63);
    for (; left >= 0x80; left >>= 7) bytes.push_back((std::int8_t)(left | 0x80));
    bytes.push_back((std::int8_t)left);
  }
  add(name, std::move(bytes));
}

void PartsWriter::add_text(const std::string& name, std::string_view text) {
  add(name, std::vector<std::int8_t>(text.begin(), text.end()));
}

// Metadata, and the descriptions of all parts.
gguf_context_ptr PartsWriter::header() const {
  gguf_context_ptr header(gguf_init_empty());
  gguf_set_kv(header.get(), metadata_.get());
  for (const Part& part : parts_) describe(header.get(), part.name, part.type, part.shape);
  const auto n_rows = (std::int64_t)n_rows_for(parts_.size());
  describe(header.get(), kChecksums, GGML_TYPE_I64, std::array<std::int64_t, 2>{2, n_rows});
  return header;
}

std::uint64_t PartsWriter::bytes() const {
  std::uint64_t bytes = gguf_get_meta_size(header().get()) + n_rows_for(parts_.size()) * kRow;
  for (const Part& part : parts_) bytes += padded(part.bytes);
  return bytes;
}

void PartsWriter::write(const std::string& path) const {
  Replacement file(path);
  write_to([&](std::string_view piece) { file.write(piece); });
  file.commit();
}

void PartsWriter::write_to(const std::function<void(std::string_view bytes)>& sink) const {
  const gguf_context_ptr metadata = header();
  std::vector<std::byte> bytes(gguf_get_meta_size(metadata.get()));
  gguf_get_meta_data(metadata.get(), bytes.data());
  std::vector<Row> rows = {sum_of(bytes)};
  const std::uint64_t metadata_bytes = bytes.size();

  sink(view(bytes));
  for (const Part& part : parts_) {
    bytes.assign(padded(part.bytes), std::byte{0});
    const std::span<std::byte> own = std::span(bytes).first(part.bytes);
    part.fill(own);
    rows.push_back(sum_of(own));
    sink(view(bytes));
  }
  rows.resize(n_rows_for(parts_.size()) - 2);
  rows.push_back({metadata_bytes, parts_.size()});
  rows.push_back({sum_of_rows(std::as_bytes(std::span(rows))), kMagic});
  sink(view(std::as_bytes(std::span(rows))));
}

struct PartsFile::State {
  explicit State(const std::string& p) : path(p), file(p) {}
  State(std::string_view bytes, const std::string& name) : path(name), file(MappedFile::Copy(), bytes) {}
  std::string path;
  MappedFile file;
  gguf_context_ptr metadata;
};

PartsFile::PartsFile(const std::string& path, const std::string& what) : state_(std::make_unique<State>(path)) {
  open(what);
}
PartsFile::PartsFile(std::string_view bytes, const std::string& name) : state_(std::make_unique<State>(bytes, name)) {
  open(kConversation);
}

void PartsFile::open(const std::string& what) {
  const std::span<const std::byte> file = state_->file.bytes();
  const std::optional<Ending> ending = ending_of(file);
  if (!ending) {
    const bool gguf = view(file).starts_with("GGUF");
    throw Error({.subject = path(),
                 .expected = what,
                 .found = gguf ? "a GGUF file that does not end as one" : "a file of another kind",
                 .remedy = gguf ? "it is a model, or was cut short" : ""});
  }
  const auto damaged = [&](const std::string& part) {
    fail(fmt::format("{} is damaged: it does not match its checksum", part));
  };
  Row last;
  std::memcpy(&last, file.last(kRow).data(), kRow);
  if (last[0] != sum_of_ending(file, ending->n_parts)) damaged("the list of checksums");
  const auto expected = [&](std::size_t row) {
    Row sum;
    std::memcpy(&sum, ending->rows.data() + row * kRow, kRow);
    return sum;
  };
  if (sum_of(file.first(ending->metadata_bytes)) != expected(0)) damaged("the header");

  const LlamaErrors errors;
  state_->metadata.reset(gguf_init_from_buffer(file.data(), file.size(), {.no_alloc = true, .ctx = nullptr}));
  const gguf_context* g = state_->metadata.get();
  if (g == nullptr) fail(fmt::format("its header cannot be read: {}", errors.first()));
  // Its last tensor is the list that was found: any other would be read as a part that nobody checked.
  const std::int64_t list = (std::int64_t)ending->n_parts;
  const std::uint64_t list_bytes = n_rows_for(ending->n_parts) * kRow;
  if (gguf_get_data_offset(g) != ending->metadata_bytes || gguf_get_alignment(g) != kAlignment ||
      gguf_get_n_tensors(g) != list + 1 || std::string_view(gguf_get_tensor_name(g, list)) != kChecksums ||
      gguf_get_tensor_size(g, list) != list_bytes ||
      ending->metadata_bytes + gguf_get_tensor_offset(g, list) != file.size() - list_bytes) {
    fail("its header does not fit its list of checksums");
  }
  for (std::size_t i = 0; i < ending->n_parts; ++i) {
    const std::string name = gguf_get_tensor_name(g, (std::int64_t)i);
    const std::uint64_t begin = ending->metadata_bytes + gguf_get_tensor_offset(g, (std::int64_t)i);
    const std::uint64_t size = gguf_get_tensor_size(g, (std::int64_t)i);
    if (begin > file.size() || size > file.size() - begin) {
      fail("part " + name, fmt::format("bytes {} to {}", begin, begin + size), fmt::format("{} bytes", file.size()));
    }
    if (sum_of(file.subspan(begin, size)) != expected(i + 1)) damaged("part " + name);
  }
}

PartsFile::~PartsFile() = default;
PartsFile::PartsFile(PartsFile&&) noexcept = default;
PartsFile& PartsFile::operator=(PartsFile&&) noexcept = default;

const std::string& PartsFile::path() const { return state_->path; }
std::uint64_t PartsFile::bytes() const { return state_->file.bytes().size(); }

bool PartsFile::has(const std::string& key) const { return gguf_find_key(state_->metadata.get(), key.c_str()) >= 0; }

std::int64_t PartsFile::find(const std::string& key, gguf_type type) const {
  const gguf_context* g = state_->metadata.get();
  const std::int64_t id = gguf_find_key(g, key.c_str());
  if (id < 0) fail(key, "a value", "none");
  if (gguf_get_kv_type(g, id) != type) {
    fail(key, fmt::format("type {}", gguf_type_name(type)), gguf_type_name(gguf_get_kv_type(g, id)));
  }
  return id;
}

std::string PartsFile::text(const std::string& key) const {
  return gguf_get_val_str(state_->metadata.get(), find(key, GGUF_TYPE_STRING));
}

bool PartsFile::flag(const std::string& key) const {
  return gguf_get_val_bool(state_->metadata.get(), find(key, GGUF_TYPE_BOOL));
}

double PartsFile::real(const std::string& key) const {
  const double value = gguf_get_val_f64(state_->metadata.get(), find(key, GGUF_TYPE_FLOAT64));
  if (!std::isfinite(value)) fail(key, "a number", fmt::format("{}", value));
  return value;
}

std::uint64_t PartsFile::number(const std::string& key, std::uint64_t least, std::uint64_t most) const {
  const std::uint64_t value = gguf_get_val_u64(state_->metadata.get(), find(key, GGUF_TYPE_UINT64));
  if (value < least || value > most) fail(key, fmt::format("{} to {}", least, most), fmt::format("{}", value));
  return value;
}

bool PartsFile::has_part(const std::string& name) const {
  return gguf_find_tensor(state_->metadata.get(), name.c_str()) >= 0;
}

FilePart PartsFile::part(const std::string& name) const {
  const gguf_context* g = state_->metadata.get();
  const std::int64_t id = gguf_find_tensor(g, name.c_str());
  if (id < 0) fail("part " + name, "one", "none");
  const std::int64_t* shape = gguf_get_tensor_ne(g, id);
  std::size_t n_dims = GGML_MAX_DIMS;
  while (n_dims > 1 && shape[n_dims - 1] == 1) --n_dims;
  return {gguf_get_tensor_type(g, id),
          {shape, shape + n_dims},
          state_->file.bytes().subspan(gguf_get_data_offset(g) + gguf_get_tensor_offset(g, id),
                                       gguf_get_tensor_size(g, id))};
}

void PartsFile::require_type(const std::string& name, const FilePart& part, ggml_type type) const {
  if (part.type != type) fail("part " + name, ggml_type_name(type), ggml_type_name(part.type));
}

FilePart PartsFile::part(const std::string& name, ggml_type type, std::uint64_t n) const {
  const FilePart part = this->part(name);
  require_type(name, part, type);
  std::uint64_t have = 1;
  for (const std::int64_t d : part.shape) have *= (std::uint64_t)d;
  if (have != n) fail("part " + name, fmt::format("{} elements", n), fmt::format("{}", have));
  return part;
}

std::vector<std::int64_t> PartsFile::integers(const std::string& name) const {
  const auto widened = [&]<class Number>(Number) {
    const std::vector<Number> values = list<Number>(name);
    return std::vector<std::int64_t>(values.begin(), values.end());
  };
  switch (part(name).type) {
    case GGML_TYPE_I8:
      return widened(std::int8_t{});
    case GGML_TYPE_I16:
      return widened(std::int16_t{});
    case GGML_TYPE_I32:
      return widened(std::int32_t{});
    default:
      return list<std::int64_t>(name);
  }
}

std::vector<std::int64_t> PartsFile::varints(const std::string& name) const {
  const FilePart part = this->part(name);
  require_type(name, part, GGML_TYPE_I8);
  std::vector<std::int64_t> values;
  std::uint64_t value = 0;
  int shift = 0;
  for (const std::byte next : part.bytes) {
    const auto bits = (std::uint64_t)next;
    if (shift > 56) fail("part " + name, "numbers of at most nine bytes", "a longer one");
    value |= (bits & 0x7f) << shift;
    shift += 7;
    if (bits >= 0x80) continue;
    values.push_back((std::int64_t)(value >> 1) ^ -(std::int64_t)(value & 1));
    value = 0;
    shift = 0;
  }
  if (shift > 0) fail("part " + name, "whole numbers", "one that is cut short");
  return values;
}

std::string PartsFile::part_text(const std::string& name) const {
  const FilePart part = this->part(name);
  require_type(name, part, GGML_TYPE_I8);
  return std::string(view(part.bytes));
}

std::vector<std::string> PartsFile::part_names() const {
  std::vector<std::string> names;
  const gguf_context* g = state_->metadata.get();
  for (std::int64_t i = 0; i + 1 < gguf_get_n_tensors(g); ++i) names.emplace_back(gguf_get_tensor_name(g, i));
  return names;
}

void PartsFile::fail(const std::string& found) const { throw Error({.subject = state_->path, .found = found}); }

void PartsFile::fail(const std::string& what, const std::string& expected, const std::string& found) const {
  throw Error({.subject = state_->path + ": " + what, .expected = expected, .found = found});
}

bool seal(std::span<std::byte> file) {
  const std::optional<Ending> ending = ending_of(file);
  if (!ending) return false;
  const std::size_t n_rows = n_rows_for(ending->n_parts);
  std::byte* rows = file.last(n_rows * kRow).data();
  const auto put = [&](std::size_t row, const Row& sum) { std::memcpy(rows + row * kRow, &sum, kRow); };
  put(0, sum_of(file.first(ending->metadata_bytes)));
  const gguf_context_ptr g(gguf_init_from_buffer(file.data(), file.size(), {.no_alloc = true, .ctx = nullptr}));
  for (std::int64_t i = 0; g && i < std::min((std::int64_t)ending->n_parts, gguf_get_n_tensors(g.get())); ++i) {
    const std::uint64_t begin = gguf_get_data_offset(g.get()) + gguf_get_tensor_offset(g.get(), i);
    const std::uint64_t size = gguf_get_tensor_size(g.get(), i);
    if (begin <= file.size() && size <= file.size() - begin) put((std::size_t)i + 1, sum_of(file.subspan(begin, size)));
  }
  put(n_rows - 1, {sum_of_ending(file, ending->n_parts), kMagic});
  return true;
}

}  // namespace lacake
