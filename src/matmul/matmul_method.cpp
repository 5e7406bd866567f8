#include "matmul/matmul_method.h"

#include <fmt/format.h>

#include "lacake/error.h"
#include "matmul/int8.h"

namespace lacake::matmul {
namespace {

// What the method needs and this machine lacks; null if it can be had.
const char* missing(Method method) {
  switch (method) {
    case Method::kInt8:
      return has_int8() ? nullptr : "AVX2";
    case Method::kBf16:
    case Method::kBf16x3:
      return has_bf16() ? nullptr : "AMX and bf16";
    default:
      return nullptr;
  }
}

}  // namespace

const char* name(Method method) {
  switch (method) {
    case Method::kGgml:
      return "ggml";
    case Method::kF32:
      return "f32";
    case Method::kInt8:
      return "int8";
    case Method::kBf16:
      return "bf16";
    case Method::kBf16x3:
      return "bf16x3";
  }
  return "";
}

Method parse_method(std::string_view text) {
  if (text == "auto") {
    if (has_bf16()) return Method::kBf16;
    return has_int8() ? Method::kInt8 : Method::kGgml;
  }
  for (const Method method : {Method::kGgml, Method::kF32, Method::kInt8, Method::kBf16, Method::kBf16x3}) {
    if (text != name(method)) continue;
    if (const char* needed = missing(method)) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = fmt::format("product {}", text),
                   .expected = fmt::format("a CPU with {}", needed),
                   .found = "one without",
                   .remedy = "f32 or ggml would do"});
    }
    return method;
  }
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "product",
               .expected = "auto, ggml, f32, int8, bf16 or bf16x3",
               .found = fmt::format("\"{}\"", text)});
}

Pieces pieces(Method method, ggml_type type) {
  const bool coarse = type != GGML_TYPE_F32 && type != GGML_TYPE_F16 && type != GGML_TYPE_BF16;
  return method == Method::kBf16 && coarse ? Pieces::kOne : Pieces::kTwo;
}

bool reads_packed(Method method) { return method != Method::kGgml && has_int8(); }

Kernel kernel_for(Method method, ggml_type type, std::int64_t n_in, bool packed, bool few) {
  if (few) return packed ? Kernel::kInt8Packed : Kernel::kGgml;
  if (method == Method::kGgml) return Kernel::kGgml;
  const bool whole = n_in % (std::int64_t)kBlock == 0;
  if (method == Method::kInt8 && whole && is_affine(type)) return Kernel::kInt8Tiles;
  if (type != GGML_TYPE_F32 && !ggml_get_type_traits(type)->to_float) return Kernel::kGgml;
  const bool rounded = method == Method::kBf16x3 || (method == Method::kBf16 && type != GGML_TYPE_F32);
  return rounded ? Kernel::kBf16Tiles : Kernel::kF32Tiles;
}

std::uint64_t bytes_beside_graph(Method method, std::size_t n_columns, std::size_t n_in) {
  return method == Method::kGgml ? (std::uint64_t)n_columns * n_in * 34 / 32 : 0;
}

}  // namespace lacake::matmul
