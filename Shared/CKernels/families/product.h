// Packing of weights and rows, and the blocked product of ck_product.h.
_Static_assert(CK_ROW_TILE == CK_TILE_ROWS, "row lists are padded to whole tiles");

enum {
    // Words of depth that one pass over the rows takes: a panel of so many stays in a core's second-level cache.
    CK_DEPTH_BLOCK = 1024,
    CK_TRANSPOSED = 16,  // words that packing turns at a time
};

/// Words of one segment of `depth` channels.
static int64_t product_words(ck_type type, int64_t depth) {
    int64_t each = channels_per_word(words_of(type));
    return (depth + each - 1) / each;
}
static int64_t product_panel(void) { return CK_PANEL; }
/// Whether rows of `type` activations with segments of `depth` channels are words as they lie in memory.
static bool product_reads_rows(ck_type type, int64_t depth) {
    word_kind kind = words_of(type);
    return kind == CK_FLOATS ? type == CK_F32 : depth % channels_per_word(kind) == 0;
}
static int64_t packed_weight_bytes(ck_type type, int64_t outputs, int64_t segments, int64_t depth) {
    return round_up(outputs, CK_LANES) * segments * product_words(type, depth) * 4;
}

/// `count` channels of one output and segment as floats.
CK_INLINE void weight_floats(
    const ck_weights *w, int64_t output, int64_t segment, int64_t channel, int64_t count, float *values) {
    int64_t at = output * w->output_stride + segment * w->segment_stride + channel * w->channel_stride;
    for (int64_t i = 0; i < count; i++, at += w->channel_stride) {
        if (w->from == CK_F32) values[i] = ((const float *)w->elements)[at];
        else if (w->from == CK_BF16) values[i] = float_of_bf16(((const uint16_t *)w->elements)[at]);
        else values[i] = float_of_f16(((const uint16_t *)w->elements)[at]);
    }
}

/// Up to CK_TRANSPOSED words of one output; zeros beyond the depth.
CK_INLINE void weight_words(
    const ck_weights *w, word_kind kind, int64_t output, int64_t segment, int64_t word, int64_t count, float factor,
    uint32_t *words) {
    int64_t each = channels_per_word(kind), channel = word * each;
    int64_t channels = w->depth - channel < count * each ? w->depth - channel : count * each;
    __builtin_memset(words, 0, CK_TRANSPOSED * 4);
    if (w->channel_stride == 1 && w->from == (kind == CK_FLOATS ? CK_F32 : CK_BF16) && kind != CK_QUADS) {
        int64_t bytes = kind == CK_FLOATS ? 4 : 2;
        int64_t at = output * w->output_stride + segment * w->segment_stride + channel;
        __builtin_memcpy(words, (const char *)w->elements + at * bytes, (size_t)(channels * bytes));
        return;
    }
    float values[4 * CK_TRANSPOSED];
    weight_floats(w, output, segment, channel, channels, values);
    for (int64_t i = 0; i < channels; i++) {
        if (kind == CK_FLOATS) {
            __builtin_memcpy(words + i, values + i, 4);
        } else if (kind == CK_PAIRS) {
            ((uint16_t *)words)[i] = bf16_of_float(values[i]);
        } else {
            ((int8_t *)words)[i] = (int8_t)__builtin_rintf(values[i] * factor);
        }
    }
}

/// The first `depth` rows of the transpose of rows[CK_LANES][CK_LANES], `stride` words apart.
CK_INLINE void turn_square(const uint32_t *rows, int64_t row_stride, uint32_t *out, int64_t stride, int64_t depth) {
#if CK_LANES == 16
    __m512i v[16];
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) v[i] = _mm512_loadu_si512(rows + i * row_stride);
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    // In every step blocks of `w` lanes change places between rows `w` apart.
#pragma clang loop unroll(full)
    for (int w = 8; w > 0; w /= 2) {
        const __m512i step = _mm512_set1_epi32(w);
        const __mmask16 upper = _mm512_test_epi32_mask(lanes, step);
        const __m512i low = _mm512_mask_add_epi32(lanes, upper, lanes, _mm512_set1_epi32(16 - w));
        const __m512i high = _mm512_add_epi32(lanes, _mm512_mask_set1_epi32(step, upper, 16));
#pragma clang loop unroll(full)
        for (int i = 0; i < 16; i++) {
            if (i & w) continue;
            __m512i a = v[i], b = v[i + w];
            v[i] = _mm512_permutex2var_epi32(a, low, b);
            v[i + w] = _mm512_permutex2var_epi32(a, high, b);
        }
    }
    for (int i = 0; i < 16 && i < depth; i++) _mm512_storeu_si512(out + i * stride, v[i]);
#else
    for (int64_t d = 0; d < depth; d++)
        for (int i = 0; i < CK_LANES; i++) out[d * stride + i] = rows[i * row_stride + d];
#endif
}

/// Columns [first, first + columns) of a panel-wise packed layer; `first` is a multiple of the panel.
static void pack_weights(
    ck_type type, const ck_weights *w, int64_t first, int64_t columns, const float *column_scales, void *packed) {
    word_kind kind = words_of(type);
    int64_t words = product_words(type, w->depth), total = w->segments * words;
    uint32_t *out = packed;
    out += first * total;
    for (int64_t j = first; j < first + columns; j += CK_PANEL) {
        int64_t left = round_up(w->outputs - j, CK_LANES), width = left < CK_PANEL ? left : CK_PANEL;
        int64_t count = w->outputs - j < CK_PANEL ? w->outputs - j : CK_PANEL;
        for (int64_t segment = 0; segment < w->segments; segment++) {
            for (int64_t k = 0; k < words; k += CK_TRANSPOSED) {
                int64_t n = words - k < CK_TRANSPOSED ? words - k : CK_TRANSPOSED;
                uint32_t turned[CK_PANEL][CK_TRANSPOSED];
                for (int64_t c = 0; c < count; c++)
                    weight_words(
                        w, kind, j + c, segment, k, n, column_scales ? 1.0f / column_scales[j + c] : 1.0f, turned[c]);
                for (int64_t c = count; c < width; c++) __builtin_memset(turned[c], 0, sizeof turned[c]);
                uint32_t *target = out + (segment * words + k) * width;
                for (int64_t c = 0; c < width; c += CK_LANES)
                    for (int64_t i = 0; i < n; i += CK_LANES)
                        turn_square(
                            turned[c] + i, CK_TRANSPOSED, target + i * width + c, width,
                            n - i < CK_LANES ? n - i : CK_LANES);
            }
        }
        out += width * total;
    }
}

/// What one step of int8 stands for; never so small that a factor made of it could vanish.
CK_INLINE float int8_scale(float top) { return top < 1e-10f ? 1.0f : top / 127.0f; }

/// The scale of every output in [first, first + columns), and 128 times the sum of its int8 weights.
static void int8_columns(const ck_weights *w, int64_t first, int64_t columns, float *scales, int32_t *corrections) {
    float values[256];
    for (int64_t o = first; o < first + columns; o++) {
        float highest = 0;
        for (int64_t s = 0; s < w->segments; s++)
            for (int64_t c = 0; c < w->depth; c += 256) {
                int64_t n = w->depth - c < 256 ? w->depth - c : 256;
                weight_floats(w, o, s, c, n, values);
                for (int64_t i = 0; i < n; i++) highest = __builtin_fmaxf(highest, __builtin_fabsf(values[i]));
            }
        scales[o] = int8_scale(highest);
        float factor = 1.0f / scales[o];
        int32_t sum = 0;
        for (int64_t s = 0; s < w->segments; s++)
            for (int64_t c = 0; c < w->depth; c += 256) {
                int64_t n = w->depth - c < 256 ? w->depth - c : 256;
                weight_floats(w, o, s, c, n, values);
                for (int64_t i = 0; i < n; i++) sum += (int8_t)__builtin_rintf(values[i] * factor);
            }
        corrections[o] = 128 * sum;
    }
}

/// Rows [lo, hi) as words: for activations that are not words where they lie. `x` is the first row.
static void row_words(
    ck_type type, const void *x, int64_t depth, int64_t row_stride, int64_t lo, int64_t hi, void *words) {
    int64_t count = product_words(type, depth);
    for (int64_t row = lo; row < hi; row++) {
        uint32_t *out = (uint32_t *)words + row * count;
        if (words_of(type) == CK_PAIRS) {
            out[count - 1] = 0;
            __builtin_memcpy(out, (const uint16_t *)x + row * row_stride, (size_t)depth * 2);
        } else if (type == CK_F32) {
            __builtin_memcpy(out, (const float *)x + row * row_stride, (size_t)depth * 4);
        } else {
            for (int64_t c = 0; c < depth; c += CK_LANES)
                store_some(CK_F32, out, c, depth - c, load_some(CK_BF16, x, row * row_stride + c, depth - c));
        }
    }
}

/// Rows [lo, hi) of `type` as unsigned bytes about 128, four a word, each row with a scale of its own.
static void int8_rows(
    ck_type type, const void *x, int64_t depth, int64_t lo, int64_t hi, void *words, float *scales) {
    int64_t bytes = round_up(depth, 4);
    for (int64_t row = lo; row < hi; row++) {
        vf highest = {};
        for (int64_t c = 0; c < depth; c += CK_LANES) {
            vf v = load_some(type, x, row * depth + c, depth - c);
            highest = vmax(highest, vmax(v, -v));
        }
        scales[row] = int8_scale(vmaximum(highest));
        float factor = 1.0f / scales[row];
        uint8_t *out = (uint8_t *)words + row * bytes;
        for (int64_t c = 0; c < depth; c += CK_LANES) {
            vf v = load_some(type, x, row * depth + c, depth - c) * factor + (CK_ROUNDER + 128.0f);
            vi q = (vi)v - (vi)vset(CK_ROUNDER);
            typedef uint8_t vb __attribute__((vector_size(CK_LANES)));
            vb b = __builtin_convertvector(q, vb);
            int64_t n = depth - c < CK_LANES ? depth - c : CK_LANES;
            __builtin_memcpy(out + c, &b, (size_t)n);
        }
        for (int64_t c = depth; c < bytes; c++) out[c] = 128;
    }
}

/// Pieces of the depth that one pass takes: whole segments, or a part of one.
typedef struct {
    int64_t segment, segments, word, words;
} depth_block;

CK_INLINE void product_rows(
    word_kind kind, int vectors, const ck_product *p, const uint32_t *panel, depth_block block, float *result) {
    int64_t slots = round_up(p->rows, CK_TILE_ROWS), all = product_words(p->type, p->depth);
    for (int64_t row = 0; row < p->rows; row += CK_TILE_ROWS) {
        tile_sums tile;
        float *c = result + row * p->result_stride;
        if (block.segment == 0 && block.word == 0) tile_clear(vectors, &tile);
        else tile_load(vectors, &tile, c, p->result_stride);
        const uint32_t *b = panel + (block.segment * all + block.word) * vectors * CK_LANES;
        for (int64_t s = block.segment; s < block.segment + block.segments; s++) {
            const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
            for (int r = 0; r < CK_TILE_ROWS; r++)
                rows[r] = (const uint32_t *)p->words[s * slots + row + r] + block.word;
            accumulate(kind, vectors, rows, b, block.words, &tile);
            b += block.words * vectors * CK_LANES;
        }
        tile_store(vectors, &tile, c, p->result_stride);
    }
}

CK_INLINE void product_columns(word_kind kind, const ck_product *p) {
    int64_t words = product_words(p->type, p->depth), total = p->segments * words;
    int64_t whole = CK_DEPTH_BLOCK / words, parts = (words + CK_DEPTH_BLOCK - 1) / CK_DEPTH_BLOCK;
    int64_t part_words = (words + parts - 1) / parts;
    if (whole < 1) whole = 1;
    const uint32_t *panel = (const uint32_t *)p->packed + p->first * total;
    for (int64_t j = 0; j < p->columns; j += CK_PANEL) {
        int64_t left = round_up(p->outputs - p->first - j, CK_LANES);
        int64_t width = left < CK_PANEL ? left : CK_PANEL;
        depth_block block = {0};
        for (block.segment = 0; block.segment < p->segments; block.segment += whole) {
            block.segments = p->segments - block.segment < whole ? p->segments - block.segment : whole;
            for (block.word = 0; block.word < words; block.word += part_words) {
                block.words = words - block.word < part_words ? words - block.word : part_words;
                switch (width / CK_LANES) {
                case 1: product_rows(kind, 1, p, panel, block, p->result + j); break;
#if CK_LANES == 16
                case 2: product_rows(kind, 2, p, panel, block, p->result + j); break;
                case 3: product_rows(kind, 3, p, panel, block, p->result + j); break;
#endif
                default: product_rows(kind, CK_TILE_VECTORS, p, panel, block, p->result + j); break;
                }
            }
        }
        panel += width * total;
    }
}

static void product(const ck_product *p) {
    switch (words_of(p->type)) {
    case CK_FLOATS: product_columns(CK_FLOATS, p); break;
#ifdef CK_HAS_BF16
    case CK_PAIRS: product_columns(CK_PAIRS, p); break;
#endif
    default: product_columns(CK_QUADS, p); break;
    }
}

static void int8_values(
    float *tile, int64_t stride, int64_t rows, int64_t columns, const ck_int8_scales *scales) {
    for (int64_t r = 0; r < rows; r++) {
        float *row = tile + r * stride;
        for (int64_t c = 0; c < columns; c += CK_LANES) {
            vi sum = (vi)vload(row + c);
            int64_t n = columns - c;
            vi correction = (vi)load_some(CK_F32, scales->corrections, c, n);
            vf factor = load_some(CK_F32, scales->column_scales, c, n) * scales->row_scales[r];
            vstore(row + c, __builtin_convertvector(sum - correction, vf) * factor);
        }
    }
}
