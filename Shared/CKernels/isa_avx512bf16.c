// AVX-512 with BF16 and VNNI: sixteen lanes, and products of bfloat16 pairs and of int8 quads. Every processor with
// the first has the second.
#include "tables.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni"))), \
    apply_to = function)
#define CK_LANES 16
#define CK_HAS_F16C
#define CK_HAS_BF16
#define CK_HAS_VNNI
#define CK_TABLE ck_table_avx512bf16
#define CK_TABLE_ISA CK_AVX512_BF16
#define CK_TABLE_NAME "avx512bf16,avx512vnni"
#include "families/all.h"
#pragma clang attribute pop
#endif
