#include "attention/attention_method.h"

#include <fmt/format.h>

#include "cpu/target.h"
#include "lacake/error.h"

namespace lacake::attention {

// With AVX-512 it is compiled for VNNI (int16_dot_inl.h).
bool has_int16() { return !cpu::uses_avx512() || cpu::uses_avx512_vnni(); }
bool has_fast_int16() { return has_int16() && cpu::uses_avx2(); }

Method parse_method(std::string_view text) {
  if (text == "auto") return Method::kAuto;
  if (text == "f32") return Method::kF32;
  if (text == "ggml") return Method::kGgml;
  if (text != "int16") {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "attention",
                 .expected = "auto, int16, f32 or ggml",
                 .found = fmt::format("\"{}\"", text)});
  }
  if (!has_int16()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "attention int16",
                 .expected = "a CPU with AVX-512 VNNI, or one without AVX-512",
                 .found = "one with AVX-512 alone",
                 .remedy = "f32 would do"});
  }
  return Method::kInt16;
}

Arithmetic arithmetic_of(Method method, ggml_type type_k, ggml_type type_v) {
  if (method == Method::kInt16) return Arithmetic::kInt16;
  const bool exact = type_k == GGML_TYPE_F32 || type_v == GGML_TYPE_F32;
  return method == Method::kAuto && !exact && has_fast_int16() ? Arithmetic::kInt16 : Arithmetic::kF32;
}

const char* name(Arithmetic arithmetic) { return arithmetic == Arithmetic::kInt16 ? "int16" : "f32"; }

}  // namespace lacake::attention
