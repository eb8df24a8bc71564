// AVX-512 F, BW, DQ and VL: sixteen lanes.
#include "tables.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
    apply_to = function)
#define CK_LANES 16
#define CK_HAS_F16C
#define CK_TABLE ck_table_avx512
#define CK_TABLE_ISA CK_AVX512
#define CK_TABLE_NAME "avx512"
#include "families/all.h"
#pragma clang attribute pop
#endif
