// AVX2 with FMA and F16C: eight lanes.
#include "tables.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define CK_LANES 8
#define CK_HAS_F16C
#define CK_TABLE ck_table_avx2
#define CK_TABLE_ISA CK_AVX2
#define CK_TABLE_NAME "avx2"
#include "families/all.h"
#pragma clang attribute pop
#endif
