// Softmax attention over blocks of keys with a running maximum and sum (Dao et al. 2022, FlashAttention, algorithm 1).
//
// A call of the network runs in two steps. First the keys and values of a head are packed, in independent ranges of
// key blocks; then every block of queries of the head is computed against all of them. Packed form, block width and
// arithmetic belong to one table and type, so the two steps must use the same table.
#ifndef CK_ATTENTION_H
#define CK_ATTENTION_H

#include "ck_types.h"

/// Keys of one packed block: the unit of the packing range and of the running softmax.
enum { CK_KEY_BLOCK = 384 };
/// Most queries of one `attention` call.
enum { CK_QUERY_BLOCK = 384 };
/// Keys that share a scale in int8.
enum { CK_INT8_KEYS = 64 };
/// Largest head size.
enum { CK_HEAD_LIMIT = 512 };

/// One head of an attention operation.
typedef struct {
    ck_type type;              ///< of queries, keys, values and the result
    int64_t head_size;         ///< channels of the head, 1...CK_HEAD_LIMIT
    int64_t keys;              ///< rows of keys and values, at least 1
    int64_t row_stride;        ///< elements from one row of keys, values, queries or result to the next
    float scale;               ///< factor of q·k
    /// `[head_size]`, only where the table's `attends_in_int8` says so: both products are of int8. These values, the
    /// means of the keys, are taken off the keys first, which changes no softmax (Zhang et al. 2024, SageAttention).
    /// NULL: products in `type`.
    const float *_Nullable key_means;
} ck_attention_head;

/// One block of queries.
typedef struct {
    const void *_Nonnull queries;      ///< first query of the block, at the head's first channel
    void *_Nonnull result;             ///< likewise in the result
    int64_t count;                     ///< 1...CK_QUERY_BLOCK
    const float *_Nullable bias;       ///< `[count, keys]`, added to the scaled scores
    int64_t bias_stride;               ///< elements from one bias row to the next
} ck_attention_queries;

#endif
