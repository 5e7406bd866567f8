// libFuzzer's own mutations of a file's bytes rarely leave a file. So most of ours are made in its parts and values,
// and the file is put together again around them.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "fuzz/world.h"
#include "tools/file_parts.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace lacake::fuzzing {
namespace {

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  void change(FileParts& all) {
    for (std::size_t n = 1 + below(3); n-- > 0;) {
      if (below(4) == 0 && !all.metadata.empty()) {
        std::visit([&](auto& value) { change(value); }, all.metadata[below(all.metadata.size())].second);
      } else if (!all.parts.empty()) {
        change(all, all.parts[below(all.parts.size())]);
      }
    }
  }

 private:
  std::size_t below(std::size_t n) { return n == 0 ? 0 : random_() % n; }
  template <class List>
  auto one_of(const List& list) {
    return list[below(list.size())];
  }

  std::int64_t odd_integer(std::int64_t old) {
    const std::array<std::int64_t, 14> odd = {0,
                                              1,
                                              -1,
                                              old + 1,
                                              old - 1,
                                              -old,
                                              2 * (old / 2),
                                              old * (std::int64_t)below(9),
                                              (std::int64_t)below(64),
                                              127,
                                              INT32_MAX,
                                              INT64_MAX,
                                              INT64_MIN,
                                              (std::int64_t)below(100000)};
    return one_of(odd);
  }
  double odd_real(double old) {
    const std::array<double, 16> odd = {0,
                                        -0.0,
                                        1,
                                        -1,
                                        old * 2,
                                        -old,
                                        old / 1000,
                                        old * 1e6,
                                        1e-30,
                                        1e12,
                                        1e30,
                                        std::numeric_limits<float>::max() / 2,
                                        std::numeric_limits<double>::max(),
                                        NAN,
                                        INFINITY,
                                        (double)below(100)};
    return one_of(odd);
  }

  void change(bool& value) { value = !value; }
  void change(std::uint64_t& value) {
    value = (std::uint64_t)odd_integer((std::int64_t)std::min<std::uint64_t>(value, INT32_MAX));
  }
  void change(double& value) { value = odd_real(value); }
  void change(std::string& value) {
    static const std::vector<std::string> known = {"none",
                                                   "entries",
                                                   "share",
                                                   "bytes",
                                                   "exact",
                                                   "streaming",
                                                   "f32",
                                                   "f16",
                                                   "q8_0,f16",
                                                   "bf16",
                                                   "full",
                                                   "tova",
                                                   "h2o",
                                                   "cake:window=2",
                                                   "snapkv:window=2",
                                                   "keydiff",
                                                   "lacache:span=1,sinks=1",
                                                   "streaming-llm:sinks=1",
                                                   "trellis:window=2",
                                                   "random",
                                                   "pyramidkv:window=2",
                                                   "h2o:heads=adaptive",
                                                   "trellis:every=1,rows=4"};
    if (below(2) == 0) {
      value = one_of(known);
      return;
    }
    std::vector<std::uint8_t> bytes(value.begin(), value.end());
    mutate(bytes, value.size() + 8);
    std::erase(bytes, 0);
    value.assign(bytes.begin(), bytes.end());
  }

  static void mutate(std::vector<std::uint8_t>& bytes, std::size_t most) {
    const std::size_t size = bytes.size();
    bytes.resize(std::max<std::size_t>(most, 1));
    bytes.resize(LLVMFuzzerMutate(bytes.data(), size, bytes.size()));
  }

  template <class Number>
  void change_number(EditedPart& part) {
    const std::size_t n = part.bytes.size() / sizeof(Number);
    if (n == 0) return;
    const std::size_t first = below(n), last = below(4) == 0 ? std::min(n, first + 1 + below(8)) : first + 1;
    for (std::size_t i = first; i < last; ++i) {
      Number value;
      std::memcpy(&value, part.bytes.data() + i * sizeof value, sizeof value);
      if constexpr (std::is_floating_point_v<Number>) {
        value = (Number)odd_real((double)value);
      } else {
        value = (Number)odd_integer(value / 2 * 2 == value ? value : value - 1 + (std::int64_t)below(2));
      }
      std::memcpy(part.bytes.data() + i * sizeof value, &value, sizeof value);
    }
  }

  void change(FileParts& all, EditedPart& part) {
    switch (below(12)) {
      case 0:
        return resize(part);
      case 1:
        return replace_bytes(part);
      case 2:
        if (below(8) == 0) all.parts.erase(all.parts.begin() + (&part - all.parts.data()));
        return;
      case 3: {
        // What another part has, under this one's name.
        const EditedPart& other = one_of(all.parts);
        if (other.shape.size() == 1 && part.shape.size() == 1) part = {part.name, other.type, other.shape, other.bytes};
        return;
      }
      case 4:
        if (const std::size_t other = below(all.parts.size()); below(4) == 0)
          std::swap(part.name, all.parts[other].name);
        return;
      default:
        break;
    }
    switch (part.type) {
      case GGML_TYPE_F32:
        return change_number<float>(part);
      case GGML_TYPE_F64:
        return change_number<double>(part);
      case GGML_TYPE_I8:
        if (part.name.starts_with("note.") || part.name == "text") return replace_bytes(part);
        return change_number<std::int8_t>(part);
      case GGML_TYPE_I16:
        return change_number<std::int16_t>(part);
      case GGML_TYPE_I32:
        return change_number<std::int32_t>(part);
      case GGML_TYPE_I64:
        return change_number<std::int64_t>(part);
      default:
        return replace_bytes(part);
    }
  }

  // As many bytes as before, but of a text, which has its own length.
  void replace_bytes(EditedPart& part) {
    std::vector<std::uint8_t> bytes(part.bytes.size());
    if (!bytes.empty()) std::memcpy(bytes.data(), part.bytes.data(), bytes.size());
    const bool text = part.type == GGML_TYPE_I8 && part.shape.size() == 1;
    mutate(bytes, text ? bytes.size() + 16 : bytes.size());
    if (text) part.shape[0] = (std::int64_t)bytes.size();
    bytes.resize(text ? bytes.size() : part.bytes.size());
    part.bytes.resize(bytes.size());
    if (!bytes.empty()) std::memcpy(part.bytes.data(), bytes.data(), bytes.size());
  }

  void resize(EditedPart& part) {
    const std::size_t element = ggml_type_size(part.type);
    if (part.shape.size() != 1 || ggml_blck_size(part.type) != 1) return;
    const std::size_t n = part.bytes.size() / element;
    const std::size_t wanted = below(3) == 0 ? below(n + 4) : below(2) == 0 ? n + 1 : n - std::min<std::size_t>(n, 1);
    part.bytes.resize(wanted * element);
    part.shape[0] = (std::int64_t)wanted;
  }

  std::minstd_rand random_;
};

}  // namespace
}  // namespace lacake::fuzzing

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  using namespace lacake;
  constexpr unsigned kRaw = 16;  // one in so many
  if (size < 2 || seed % kRaw == 0) return LLVMFuzzerMutate(data, size, most);
  std::optional<FileParts> all = take_apart(std::as_bytes(std::span(data + 1, size - 1)));
  if (!all) return LLVMFuzzerMutate(data, size, most);
  fuzzing::Mutator(seed).change(*all);
  const std::string file = put_together(*all);
  if (file.size() + 1 > most) return size;
  std::memcpy(data + 1, file.data(), file.size());
  return file.size() + 1;
}
