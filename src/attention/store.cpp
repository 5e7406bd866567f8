#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/mix.h"
#include "attention/round.h"
#include "lacake/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/store.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h

#include "attention/vector_inl.h"

HWY_BEFORE_NAMESPACE();
namespace lacake::attention {
namespace HWY_NAMESPACE {

// The whole vectors of a row -> f16, rounded as the processor rounds (to nearest, ties to even: as ggml does). Returns
// how many numbers that was: none where f16 is not the processor's own.
std::size_t store_f16(const float* row, std::size_t n, void* to) {
  std::size_t i = 0;
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)) || HWY_ARCH_ARM_A64
  auto* out = static_cast<hwy::float16_t*>(to);
  for (; i + lanes() <= n; i += lanes()) {
    hn::StoreU(hn::DemoteTo(Lanes16(), hn::LoadU(Lanes32(), row + i)), Lanes16(), out + i);
  }
#else
  (void)row, (void)n, (void)to;
#endif
  return i;
}

}  // namespace HWY_NAMESPACE
}  // namespace lacake::attention
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lacake::attention {

HWY_EXPORT(store_f16);

void store_row(const float* row, int d, ggml_type type, void* to) {
  if (type == GGML_TYPE_F32) {
    std::memcpy(to, row, (std::size_t)d * sizeof(float));
    return;
  }
  std::size_t done = 0;
  if (type == GGML_TYPE_F16) {
    done = HWY_DYNAMIC_DISPATCH(store_f16)(row, (std::size_t)d, to);
    if (done == (std::size_t)d) return;
  }
  const auto from_float = ggml_get_type_traits(type)->from_float_ref;
  if (!from_float) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "kv_type",
                 .expected = "one that converts from f32",
                 .found = ggml_type_name(type)});
  }
  auto* const out = static_cast<std::byte*>(to);
  if (!is_mixed(type)) {
    from_float(row + done, out + done * ggml_type_size(type), d - (int)done);
    return;
  }
  const std::size_t block = mix_block((std::size_t)d), block_bytes = ggml_row_size(type, (std::int64_t)block);
  float mixed[kMostMixed];
  for (std::size_t i = 0, at = 0; i < (std::size_t)d; i += block, at += block_bytes) {
    std::copy_n(row + i, block, mixed);
    mix(mixed, block);
    from_float(mixed, out + at, (std::int64_t)block);
  }
}

void store_key(const float* key, int d, ggml_type type, const KeyForm& form, const float* metric, void* to) {
  if (!form.changes(type)) return store_row(key, d, type, to);
  static thread_local std::vector<float> formed;  // a key's size is known from the first one on
  formed.assign(key, key + d);
  to_form(form, type, formed.data(), (std::size_t)d);
  if (metric) {
    round_weighed(formed.data(), (std::size_t)d, type, metric, to);
  } else {
    ggml_get_type_traits(type)->from_float_ref(formed.data(), to, d);
  }
}

}  // namespace lacake::attention
#endif  // HWY_ONCE
