#include "matmul/int8_targets.h"

#if LACAKE_PRODUCT_INT8
#define LACAKE_INT8_TARGET avx512_vnni

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni") static_assert(true, "");
#include "matmul/int8_words512_inl.h"  // before what is written in these words

#include "matmul/int8_packed_inl.h"
#include "matmul/int8_tile_inl.h"
HWY_POP_ATTRIBUTES static_assert(true, "");

#endif  // LACAKE_PRODUCT_INT8
