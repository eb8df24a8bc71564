// The types that every kernel speaks in.
#ifndef CK_TYPES_H
#define CK_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Element types. Activations are CK_F32 or CK_BF16; CK_I8 occurs in packed weights, the others in
/// conversions only.
typedef enum { CK_F32 = 0, CK_BF16 = 1, CK_F16 = 2, CK_U8 = 3, CK_I32 = 4, CK_I8 = 5 } ck_type;

/// What follows a product: nothing, x·sigmoid(x), or GELU in its tanh form.
typedef enum { CK_NONE = 0, CK_SILU = 1, CK_GELU_TANH = 2 } ck_activation;

/// Instruction sets, each containing the one before it. On processors other than x86-64 only CK_GENERIC exists.
typedef enum { CK_GENERIC = 0, CK_AVX2 = 1, CK_AVX512 = 2, CK_AVX512_BF16 = 3 } ck_isa;

#endif
