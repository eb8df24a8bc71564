// Arithmetic kernels: pure functions over ranges, without threads, allocation or global state.
//
// Every kernel exists once per instruction set; `ck_select_isa` returns the table of the best set that the processor
// has and the caller allows. Results of one table do not depend on how a range is cut into calls, except where a
// kernel says so. Pointers need only the alignment of their element. Nothing is retained after a call returns.
//
// Types: an activation is float32 or bfloat16 (`ck_type`); parameters, statistics and sums are float32 or double.
#ifndef CKERNELS_H
#define CKERNELS_H

#include "ck_types.h"
#include "ck_attention.h"
#include "ck_table.h"

#endif
