#include "product/method.h"

#include <fmt/format.h>

#include "hwy/targets.h"
#include "lacake/error.h"
#include "product/int8.h"

namespace lacake::product {
namespace {

// Eight floats a vector at least: below that ggml's quantised products are the faster ones.
bool has_wide_vectors() { return (hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL)) != 0; }

}  // namespace

const char* name(Method method) {
  switch (method) {
    case Method::kGgml:
      return "ggml";
    case Method::kF32:
      return "f32";
    case Method::kInt8:
      return "int8";
  }
  return "";
}

Method parse_method(std::string_view text, std::string_view flag) {
  if (text == "auto") return has_int8() ? Method::kInt8 : has_wide_vectors() ? Method::kF32 : Method::kGgml;
  if (text == "ggml") return Method::kGgml;
  if (text == "f32") return Method::kF32;
  if (text != "int8") {
    throw Error(Error::Kind::kUsage, fmt::format("{}: expected auto, ggml, f32 or int8, found \"{}\"", flag, text));
  }
  if (!has_int8()) {
    throw Error(
        Error::Kind::kUsage,
        fmt::format("{} int8: expected a CPU with AVX-512 VNNI, this one has none; f32 or ggml would do", flag));
  }
  return Method::kInt8;
}

bool reads_packed(Method method) { return method != Method::kGgml && has_int8(); }

Kernel kernel_for(Method method, ggml_type type, std::int64_t n_in, bool packed, bool few) {
  if (few) return packed ? Kernel::kInt8Packed : Kernel::kGgml;
  if (method == Method::kGgml) return Kernel::kGgml;
  const bool whole = n_in % (std::int64_t)kBlock == 0;
  if (method == Method::kInt8 && whole && is_affine(type)) return Kernel::kInt8Tiles;
  return type == GGML_TYPE_F32 || ggml_get_type_traits(type)->to_float ? Kernel::kF32Tiles : Kernel::kGgml;
}

}  // namespace lacake::product
