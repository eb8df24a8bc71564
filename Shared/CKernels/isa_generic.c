// What every processor of the target architecture runs: four lanes (SSE2 on x86-64, NEON on aarch64).
#include "tables.h"

#define CK_LANES 4
#define CK_TABLE ck_table_generic
#define CK_TABLE_ISA CK_GENERIC
#define CK_TABLE_NAME "generic"
#include "families/all.h"
