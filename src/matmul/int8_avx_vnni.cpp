#include "matmul/int8_targets.h"

#if LACAKE_PRODUCT_INT8
#define LACAKE_INT8_TARGET avx_vnni
#define LACAKE_INT8_VNNI 1

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,avxvnni") static_assert(true, "");
#include "matmul/int8_words256_inl.h"  // before what is written in these words

#include "matmul/int8_packed_inl.h"
#include "matmul/int8_tile_inl.h"
HWY_POP_ATTRIBUTES static_assert(true, "");

#endif  // LACAKE_PRODUCT_INT8
