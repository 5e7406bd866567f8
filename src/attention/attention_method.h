#pragma once

#include <string_view>

#include "attention/attention.h"

namespace lacake::attention {

// How a graph attends: by the kernels here, which multiply in f32 or in 16-bit integers, or by a composition of ggml's
// operations.
//   kAuto  16-bit integers where that is faster than f32 on this machine and entries are rounded anyway, else f32
enum class Method { kAuto, kF32, kInt16, kGgml };

// "auto", "f32", "int16" or "ggml". Throws Error(kUsage) about `attention` for another word, or for what this
// machine cannot do.
Method parse_method(std::string_view text);

// What kernels multiply in, for entries of these types (see Arithmetic). Under kGgml kF32: it is not asked.
Arithmetic arithmetic_of(Method, ggml_type type_k, ggml_type type_v);

const char* name(Arithmetic);

}  // namespace lacake::attention
