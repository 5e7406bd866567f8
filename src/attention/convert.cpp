#include "attention/row.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/convert.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/tile_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

void convert(const void* row, int d, ggml_type type, float* out) {
  convert_row(static_cast<const std::byte*>(row), ggml_row_size(type, d), type, (std::size_t)d, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(convert);

void convert_row(const void* row, int d, ggml_type type, float* out) {
  HWY_DYNAMIC_DISPATCH(convert)(row, d, type, out);
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
