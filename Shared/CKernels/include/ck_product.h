// Matrix products: rows of activations times packed columns of weights, and what follows them.
//
// Weights are packed once into panels (see families/tile.h). A row of activations is a list of segments, each a run of
// `depth` channels anywhere in memory: one for a linear layer, one a tap for a convolution, which is how convolutions
// read their input where it lies. Sums go to a float32 tile of the caller (int32 in the same place for CK_I8), which a
// second kernel finishes. Packed form and arithmetic belong to one table, so packing and product must use the same.
#ifndef CK_PRODUCT_H
#define CK_PRODUCT_H

#include "ck_types.h"

/// Rows of one register tile; row lists are padded to a multiple of it.
enum { CK_ROW_TILE = 6 };

/// Weights `[outputs, segments, depth]` by strides in elements.
typedef struct {
    ck_type from;            ///< CK_F32, CK_BF16 or CK_F16
    const void *_Nonnull elements;
    int64_t outputs, segments, depth;
    int64_t output_stride, segment_stride, channel_stride;
} ck_weights;

/// Outputs [first, first + columns) of a layer times some rows.
typedef struct {
    ck_type type;            ///< the packed type: CK_F32, CK_BF16 or CK_I8
    int64_t rows;
    int64_t first, columns;  ///< `first` is a multiple of the panel
    int64_t outputs;         ///< of the whole layer
    int64_t segments, depth;
    /// Where each row's words of each segment lie: `[segments, row_slots]`, row_slots = rows rounded up to CK_ROW_TILE;
    /// the slots beyond the last row repeat it.
    const void *_Nonnull const *_Nonnull words;
    const void *_Nonnull packed;
    /// `[row_slots, result_stride]`; columns rounded up to 16 fit the stride.
    float *_Nonnull result;
    int64_t result_stride;
} ck_product;

/// What the scales of an int8 product belong to: value = (sum − correction[c]) · row_scale[r] · column_scale[c].
typedef struct {
    const float *_Nonnull row_scales;
    const float *_Nonnull column_scales;
    const int32_t *_Nonnull corrections;
} ck_int8_scales;

/// LayerNorm of heads, and their rotation.
typedef struct {
    int64_t head_size;
    float epsilon;
    const float *_Nonnull weight;      ///< `[head_size]`
    const float *_Nonnull bias;        ///< `[head_size]`
    const float *_Nullable cosines;    ///< `[period − rotary_start, head_size]`, or NULL for no rotation
    const float *_Nullable sines;
    int64_t rotary_start, period;
} ck_head_norm;

#endif
