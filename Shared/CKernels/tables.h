// The tables that exist in this build.
#ifndef CK_TABLES_H
#define CK_TABLES_H

#include "include/CKernels.h"

extern const ck_table ck_table_generic;
#if defined(__x86_64__)
extern const ck_table ck_table_avx2, ck_table_avx512, ck_table_avx512bf16;
#endif

#endif
