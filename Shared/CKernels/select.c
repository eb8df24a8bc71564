// The choice among the tables.
#include "tables.h"

const ck_table *ck_select_isa(ck_isa limit) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    bool pairs = avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
    if (limit >= CK_AVX512_BF16 && pairs) return &ck_table_avx512bf16;
    if (limit >= CK_AVX512 && avx512) return &ck_table_avx512;
    if (limit >= CK_AVX2 && avx2) return &ck_table_avx2;
#else
    (void)limit;
#endif
    return &ck_table_generic;
}
