// The table of kernels of one instruction set.
#ifndef CK_TABLE_H
#define CK_TABLE_H

#include "ck_attention.h"
#include "ck_product.h"
#include "ck_types.h"

#define CK_PTR const void *_Nonnull
#define CK_OUT void *_Nonnull
#define CK_VECTOR const float *_Nonnull
#define CK_MAYBE const float *_Nullable

typedef struct {
    ck_isa isa;
    /// Name for logs: "generic", "avx2", "avx512", "avx512bf16".
    const char *_Nonnull name;

    // Conversions

    /// y[i] = x[i] in another type, i in [0, count). Any float type to any float type (round to nearest, ties to even;
    /// NaN stays a quiet NaN; overflow becomes infinity), and u8 or i32 to f32.
    void (*_Nonnull convert)(ck_type from, CK_PTR x, ck_type to, CK_OUT y, int64_t count);
    /// The least i in [0, count) where x[i] is NaN or infinite, or -1. Any float type.
    int64_t (*_Nonnull first_non_finite)(ck_type type, CK_PTR x, int64_t count);

    // Elementwise; x, y of `type`

    /// y[i] = a[i]·b[i], i in [lo, hi).
    void (*_Nonnull multiply)(ck_type type, CK_PTR a, CK_PTR b, CK_OUT y, int64_t lo, int64_t hi);
    /// (a + b) / 2 of elements [lo, hi).
    void (*_Nonnull mean)(ck_type type, CK_PTR a, CK_PTR b, CK_OUT y, int64_t lo, int64_t hi);
    /// y[i] = activation(x[i]), i in [lo, hi).
    void (*_Nonnull activate)(ck_type type, ck_activation activation, CK_PTR x, CK_OUT y, int64_t lo, int64_t hi);
    /// x[r, c] += gate[c]·y[r, c] (gate NULL: 1), rows [lo, hi) of `[rows, channels]`; gate `[channels]`.
    void (*_Nonnull add_gated)(
        ck_type type, CK_OUT x, CK_PTR y, CK_MAYBE gate, int64_t channels, int64_t lo, int64_t hi);

    // Products (ck_product.h)

    /// Words of one segment of `depth` channels; columns of a whole panel; bytes of a layer's packed weights.
    int64_t (*_Nonnull product_words)(ck_type type, int64_t depth);
    int64_t (*_Nonnull product_panel)(void);
    int64_t (*_Nonnull packed_weight_bytes)(ck_type type, int64_t outputs, int64_t segments, int64_t depth);
    /// Whether rows of `type` are words as they lie in memory, so that `row_words` is not needed. Not for CK_I8.
    bool (*_Nonnull product_reads_rows)(ck_type type, int64_t depth);
    /// Packs outputs [first, first + columns) into their place in `packed`; `first` is a multiple of the panel.
    /// `column_scales` `[outputs]` for CK_I8, else NULL.
    void (*_Nonnull pack_weights)(
        ck_type type, const ck_weights *_Nonnull weights, int64_t first, int64_t columns, CK_MAYBE column_scales,
        CK_OUT packed);
    /// The int8 scale of outputs [first, first + columns) and 128 times the sum of their int8 weights; both `[outputs]`.
    void (*_Nonnull int8_columns)(
        const ck_weights *_Nonnull weights, int64_t first, int64_t columns, float *_Nonnull scales,
        int32_t *_Nonnull corrections);
    /// Rows [lo, hi) of float32 or bfloat16 activations, `row_stride` elements apart, as words:
    /// `[rows, product_words(depth)]`.
    void (*_Nonnull row_words)(
        ck_type type, CK_PTR x, int64_t depth, int64_t row_stride, int64_t lo, int64_t hi, CK_OUT words);
    /// Rows [lo, hi) of dense activations as int8 words, each row with a scale of its own (largest magnitude / 127).
    void (*_Nonnull int8_rows)(
        ck_type type, CK_PTR x, int64_t depth, int64_t lo, int64_t hi, CK_OUT words, float *_Nonnull scales);
    void (*_Nonnull product)(const ck_product *_Nonnull product);
    /// Turns the int32 sums of a CK_I8 product into float32 in place. Pointers of `scales` begin at the tile.
    void (*_Nonnull int8_values)(
        float *_Nonnull tile, int64_t stride, int64_t rows, int64_t columns, const ck_int8_scales *_Nonnull scales);
    /// y[r, c] = activation(x[r, c] + bias[c] + added[r, c]) of a float32 tile of `rows` by `columns`, stored as `type`.
    /// Strides are in elements; `added` lies like y, in elements of `type`. NULL: none.
    void (*_Nonnull finish_product)(
        ck_type type, ck_activation activation, const float *_Nonnull x, int64_t x_stride, CK_MAYBE bias,
        const void *_Nullable added, CK_OUT y, int64_t y_stride, int64_t rows, int64_t columns);
    /// y[r, c] += gate[c]·(x[r, c] + bias[c]); gate NULL: 1.
    void (*_Nonnull finish_gated)(
        ck_type type, const float *_Nonnull x, int64_t x_stride, CK_MAYBE bias, CK_MAYBE gate, CK_OUT y,
        int64_t y_stride, int64_t rows, int64_t columns);
    /// Adds the bias to a tile of whole heads (in place), then LayerNorm of each head; where cosines are given,
    /// rows from `rotary_start` of their sequence on are rotated in channel pairs (2i, 2i + 1). The first row of the tile
    /// is row `position` modulo the period of its sequence. head_size is even when rotated.
    void (*_Nonnull finish_heads)(
        ck_type type, float *_Nonnull x, int64_t x_stride, CK_MAYBE bias, const ck_head_norm *_Nonnull norm,
        int64_t position, CK_OUT y, int64_t y_stride, int64_t rows, int64_t columns);

    // Normalisation of rows [lo, hi) of `[rows, channels]`

    /// y = ((x − mean) / √(variance + ε) · weight + bias) · (1 + scale) + shift; each vector `[channels]` or NULL.
    void (*_Nonnull layer_norm)(
        ck_type type, CK_PTR x, CK_OUT y, int64_t channels, float epsilon, CK_MAYBE weight, CK_MAYBE bias,
        CK_MAYBE scale, CK_MAYBE shift, int64_t lo, int64_t hi);
    /// y = x / √(mean(x²) + ε) · weight.
    void (*_Nonnull rms_norm)(
        ck_type type, CK_PTR x, CK_OUT y, int64_t channels, float epsilon, CK_VECTOR weight, int64_t lo, int64_t hi);
    // GroupNorm over channels-last pixels

    /// sum[c] += Σ x[r, c] and squares[c] += Σ x[r, c]² over rows [lo, hi); both `[channels]`.
    void (*_Nonnull channel_sums)(
        ck_type type, CK_PTR x, int64_t channels, int64_t lo, int64_t hi, double *_Nonnull sum,
        double *_Nonnull squares);
    /// y[r, c] = x[r, c]·factor[c] + offset[c], then SiLU when `silu`; rows [lo, hi).
    void (*_Nonnull channel_affine)(
        ck_type type, CK_PTR x, CK_OUT y, int64_t channels, CK_VECTOR factor, CK_VECTOR offset, bool silu, int64_t lo,
        int64_t hi);
    /// One image row of the spatial norm: y[i, c] = (x[i, c]·factor[c] + offset[c])·scale[j, c] + shift[j, c] with
    /// j = ⌊i·latent_width / width⌋, then SiLU when `silu`. x, y `[width, channels]`; scale, shift
    /// `[latent_width, channels]` of type `latent_type`.
    void (*_Nonnull spatial_affine)(
        ck_type type, CK_PTR x, CK_OUT y, int64_t width, int64_t channels, CK_VECTOR factor, CK_VECTOR offset,
        ck_type latent_type, CK_PTR scale, CK_PTR shift, int64_t latent_width, bool silu);

    // Attention (ck_attention.h)

    /// Whether heads of that size may have `key_means`, and then no bias.
    bool (*_Nonnull attends_in_int8)(ck_type type, int64_t head_size);
    /// Bytes of one packed block of CK_KEY_BLOCK keys (or values) of a head.
    int64_t (*_Nonnull packed_block_bytes)(ck_type type, int64_t head_size);
    /// Bytes of scratch that one `attention` call needs, for any count of queries.
    int64_t (*_Nonnull attention_scratch_bytes)(ck_type type, int64_t head_size);
    /// Packs block `block` of keys and values (both at the head's first channel of row 0) into its place in
    /// `packed_keys` and `packed_values`; missing keys of the last block are zero.
    void (*_Nonnull pack_keys)(
        const ck_attention_head *_Nonnull head, CK_PTR keys, CK_PTR values, CK_OUT packed_keys, CK_OUT packed_values,
        int64_t block);
    /// result = softmax(queries · keysᵀ · scale + bias) · values. `scratch` is aligned to 64 bytes.
    void (*_Nonnull attention)(
        const ck_attention_head *_Nonnull head, const ck_attention_queries *_Nonnull queries, CK_PTR packed_keys,
        CK_PTR packed_values, CK_OUT scratch);
} ck_table;

/// The table of the best instruction set that is at most `limit` and that this processor has. Static memory.
const ck_table *_Nonnull ck_select_isa(ck_isa limit);

// Copies, the same for every instruction set

/// One output row of nearest upsampling: every pixel of `width` pixels of `pixel_bytes` twice.
void ck_repeat_pixels(CK_PTR x, CK_OUT y, int64_t width, int64_t pixel_bytes);
/// Rows [lo, hi) of a transposed copy: the result is dense `[shape[0], …, shape[rank−1]]`, a row is its last axis, and
/// its element at index i lies at Σ i[k]·strides[k] elements of x. `element_bytes` is 1, 2, 4 or 8; rank 1...8.
void ck_permute(
    int64_t element_bytes, CK_PTR x, CK_OUT y, int32_t rank, const int64_t *_Nonnull shape,
    const int64_t *_Nonnull strides, int64_t lo, int64_t hi);

#undef CK_PTR
#undef CK_OUT
#undef CK_VECTOR
#undef CK_MAYBE

#endif
