#pragma once

#include <string>

namespace lacake {

// Writes the GGUF file `in` to `out` with every tensor in F32 and all metadata as they were, but general.file_type.
// Tensor by tensor: holds one tensor in memory. `out` appears complete or not at all. Throws std::runtime_error.
void dequantize(const std::string& in, const std::string& out);

// Whether `out` is what dequantize would write: as large as it should be and not older than `in`.
bool is_dequantized(const std::string& in, const std::string& out);

}  // namespace lacake
