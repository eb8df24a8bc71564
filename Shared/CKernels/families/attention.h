// Softmax attention in the blocked form of ck_attention.h.
//
// Both products run through one register tile of CK_TILE_ROWS queries by up to CK_TILE_VECTORS vectors. Its operands
// are 32-bit words: a float, or (with CK_HAS_BF16) a pair of bfloat16 of neighbouring depth, multiplied by vdpbf16ps.
// Without that instruction bfloat16 is widened to float when it is packed.

enum {
    CK_TILE_ROWS = 6,
    CK_TILE_VECTORS = CK_LANES == 16 ? 4 : 2,
    CK_PANEL = CK_TILE_VECTORS * CK_LANES,  // keys, or channels of the values, side by side in one packed panel
};
_Static_assert(CK_KEY_BLOCK % CK_PANEL == 0 && CK_KEY_BLOCK % 2 == 0, "key blocks hold whole panels");
_Static_assert(CK_QUERY_BLOCK % CK_TILE_ROWS == 0, "query blocks hold whole tiles");

CK_INLINE bool in_pairs(ck_type type) {
#ifdef CK_HAS_BF16
    return type == CK_BF16;
#else
    (void)type;
    return false;
#endif
}
CK_INLINE int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
/// Words of one query or key.
CK_INLINE int64_t depth_words(ck_type type, int64_t head_size) {
    return in_pairs(type) ? (head_size + 1) / 2 : head_size;
}

CK_INLINE vf multiply_add(bool pairs, vf sum, uint32_t a, vu b) {
#ifdef CK_HAS_BF16
    if (pairs) return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)((vu){} + a), (__m512bh)b);
#else
    (void)pairs;
#endif
    float factor;
    __builtin_memcpy(&factor, &a, 4);
    return sum + factor * (vf)b;
}

/// c[6, vectors] = (accumulate ? c : 0) + a[6, depth] · b[depth, vectors]; b is a packed panel of that many vectors.
CK_INLINE void tile(
    bool pairs, int vectors, const uint32_t *a, int64_t a_stride, const uint32_t *b, int64_t depth, float *c,
    int64_t c_stride, bool accumulate) {
    vf sums[CK_TILE_ROWS][CK_TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++)
            sums[r][v] = accumulate ? vload(c + r * c_stride + v * CK_LANES) : (vf){};
    for (int64_t k = 0; k < depth; k++) {
        vu column[CK_TILE_VECTORS];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) __builtin_memcpy(&column[v], b + (k * vectors + v) * CK_LANES, sizeof(vu));
#pragma clang loop unroll(full)
        for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++)
                sums[r][v] = multiply_add(pairs, sums[r][v], a[r * a_stride + k], column[v]);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) vstore(c + r * c_stride + v * CK_LANES, sums[r][v]);
}

CK_INLINE void tiles(
    bool pairs, int vectors, int64_t rows, const uint32_t *a, int64_t a_stride, const uint32_t *b, int64_t depth,
    float *c, int64_t c_stride, bool accumulate) {
    for (int64_t r = 0; r < rows; r += CK_TILE_ROWS)
        tile(pairs, vectors, a + r * a_stride, a_stride, b, depth, c + r * c_stride, c_stride, accumulate);
}

/// c[rows, columns] = (accumulate ? c : 0) + a · panels, where panel p begins `panel_words·p` into `b` and the last may
/// be narrower. Rows and columns are whole tiles and vectors.
CK_INLINE void product(
    bool pairs, int64_t rows, int64_t columns, const uint32_t *a, int64_t a_stride, const uint32_t *b,
    int64_t panel_words, int64_t depth, float *c, int64_t c_stride, bool accumulate) {
    for (int64_t j = 0; j < columns; j += CK_PANEL, b += panel_words) {
        switch ((columns - j) / CK_LANES) {
        case 1: tiles(pairs, 1, rows, a, a_stride, b, depth, c + j, c_stride, accumulate); break;
#if CK_LANES == 16
        case 2: tiles(pairs, 2, rows, a, a_stride, b, depth, c + j, c_stride, accumulate); break;
        case 3: tiles(pairs, 3, rows, a, a_stride, b, depth, c + j, c_stride, accumulate); break;
#endif
        default: tiles(pairs, CK_TILE_VECTORS, rows, a, a_stride, b, depth, c + j, c_stride, accumulate); break;
        }
    }
}

static int64_t packed_block_bytes(ck_type type, int64_t head_size) {
    int64_t keys = CK_KEY_BLOCK * depth_words(type, head_size);
    int64_t values = CK_KEY_BLOCK / (in_pairs(type) ? 2 : 1) * round_up(head_size, CK_LANES);
    return round_up((keys > values ? keys : values) * 4, 64);
}

/// The head's channels of one row as words: floats, or pairs of bfloat16 with a zero after an odd end.
CK_INLINE void row_words(const ck_attention_head *head, const void *rows, int64_t row, uint32_t *words) {
    int64_t i = row * head->row_stride;
    if (in_pairs(head->type)) {
        words[(head->head_size - 1) / 2] = 0;
        __builtin_memcpy(words, (const uint16_t *)rows + i, (size_t)head->head_size * 2);
    } else if (head->type == CK_F32) {
        __builtin_memcpy(words, (const float *)rows + i, (size_t)head->head_size * 4);
    } else {
        for (int64_t c = 0; c < head->head_size; c += CK_LANES)
            store_some(CK_F32, words, c, head->head_size - c, load_some(CK_BF16, rows, i + c, head->head_size - c));
    }
}

static void pack_keys(
    const ck_attention_head *head, const void *keys, const void *values, void *packed_keys, void *packed_values,
    int64_t block) {
    int64_t depth = depth_words(head->type, head->head_size), size = head->head_size;
    int64_t block_bytes = packed_block_bytes(head->type, size), first = block * CK_KEY_BLOCK;
    int64_t count = head->keys - first < CK_KEY_BLOCK ? head->keys - first : CK_KEY_BLOCK;
    uint32_t *k_out = (uint32_t *)((char *)packed_keys + block * block_bytes);
    char *v_out = (char *)packed_values + block * block_bytes;
    __builtin_memset(v_out, 0, (size_t)block_bytes);
    if (count < CK_KEY_BLOCK) __builtin_memset(k_out, 0, (size_t)block_bytes);
    bool pairs = in_pairs(head->type);
    int64_t panel_bytes = CK_KEY_BLOCK / (pairs ? 2 : 1) * CK_PANEL * 4, columns = round_up(size, CK_LANES);
    uint32_t words[CK_HEAD_LIMIT];
    for (int64_t key = 0; key < count; key++) {
        row_words(head, keys, first + key, words);
        uint32_t *panel = k_out + key / CK_PANEL * CK_PANEL * depth + key % CK_PANEL;
        for (int64_t d = 0; d < depth; d++) panel[d * CK_PANEL] = words[d];
        row_words(head, values, first + key, words);
        for (int64_t j = 0; j < size; j += CK_PANEL) {
            int64_t width = columns - j < CK_PANEL ? columns - j : CK_PANEL;
            int64_t n = size - j < CK_PANEL ? size - j : CK_PANEL;
            char *out = v_out + j / CK_PANEL * panel_bytes;
            if (pairs) {
                uint16_t *target = (uint16_t *)out + key / 2 * 2 * width + key % 2;
                for (int64_t c = 0; c < n; c++) target[2 * c] = ((const uint16_t *)words)[j + c];
            } else {
                __builtin_memcpy((uint32_t *)out + key * width, words + j, (size_t)n * 4);
            }
        }
    }
}

/// Places inside the scratch of one call.
typedef struct {
    uint32_t *queries;  // [CK_QUERY_BLOCK, depth]
    float *scores;      // [CK_QUERY_BLOCK, CK_KEY_BLOCK]; probabilities as floats overwrite them
    uint32_t *pairs;    // [CK_QUERY_BLOCK, CK_KEY_BLOCK / 2]: probabilities as bfloat16
    float *sums;        // [CK_QUERY_BLOCK, columns]: the result before division
    float *maximum;     // [CK_QUERY_BLOCK]
    float *weight;      // [CK_QUERY_BLOCK]: Σ of probabilities
    int64_t bytes;
} attention_scratch;

CK_INLINE attention_scratch lay_out(ck_type type, int64_t head_size, char *base) {
    attention_scratch s;
    int64_t at = 0;
    s.queries = (uint32_t *)(base + at);
    at += round_up(CK_QUERY_BLOCK * depth_words(type, head_size) * 4, 64);
    s.scores = (float *)(base + at);
    at += CK_QUERY_BLOCK * CK_KEY_BLOCK * 4;
    s.pairs = (uint32_t *)(base + at);
    at += in_pairs(type) ? CK_QUERY_BLOCK * CK_KEY_BLOCK * 2 : 0;
    s.sums = (float *)(base + at);
    at += round_up(CK_QUERY_BLOCK * round_up(head_size, CK_LANES) * 4, 64);
    s.maximum = (float *)(base + at);
    s.weight = s.maximum + CK_QUERY_BLOCK;
    s.bytes = at + 2 * CK_QUERY_BLOCK * 4;
    return s;
}
static int64_t attention_scratch_bytes(ck_type type, int64_t head_size) {
    static char none[64];
    return lay_out(type, head_size, none).bytes;
}

/// Brings one row of scores of a key block to units of log2, bias included, and gives their maximum. Without a bias
/// and with a positive scale the row stays as it is, and the caller multiplies by the factor that is left.
CK_INLINE float scale_row(
    const ck_attention_head *head, float *scores, const float *bias, int64_t count, int64_t width, float *factor) {
    const float log2e = 1.44269504f, full = head->scale * log2e;
    vf highest = vset(CK_HIDDEN);
    if (!bias && full > 0) {
        for (int64_t k = count; k < width; k++) scores[k] = CK_HIDDEN;
        for (int64_t k = 0; k < width; k += CK_LANES) highest = vmax(highest, vload(scores + k));
        *factor = full;
        return vmaximum(highest) * full;
    }
    for (int64_t k = 0; k < width; k += CK_LANES) {
        vf t = vload(scores + k) * full;
        if (bias) t += load_some(CK_F32, bias, k, count - k) * log2e;
        vstore(scores + k, vselect(t < CK_HIDDEN, vset(CK_HIDDEN), t));
    }
    for (int64_t k = count; k < width; k++) scores[k] = CK_HIDDEN;
    for (int64_t k = 0; k < width; k += CK_LANES) highest = vmax(highest, vload(scores + k));
    *factor = 1;
    return vmaximum(highest);
}

/// Turns one row of scores of a key block into probabilities relative to the running maximum, and scales what was
/// summed before. `width` is `count` rounded up to whole vectors.
CK_INLINE void soften_row(
    const ck_attention_head *head, attention_scratch s, int64_t row, const float *bias, int64_t count, int64_t width,
    int64_t columns) {
    bool pairs = in_pairs(head->type);
    float *scores = s.scores + row * CK_KEY_BLOCK, factor;
    float top = scale_row(head, scores, bias, count, width, &factor), old = s.maximum[row];
    if (top > old) {
        float keep = vexp2(vset(old - top), false)[0];
        s.maximum[row] = top;
        s.weight[row] *= keep;
        for (int64_t c = 0; c < columns; c += CK_LANES) {
            float *sum = s.sums + row * columns + c;
            vstore(sum, vload(sum) * keep);
        }
    } else {
        top = old;
    }
    vf total = {};
    for (int64_t k = 0; k < width; k += CK_LANES) {
        vf p = vexp2(vload(scores + k) * factor - top, pairs);
        total += p;
#ifdef CK_HAS_BF16
        if (pairs) {
            __m256bh h = _mm512_cvtneps_pbh((__m512)p);
            __builtin_memcpy((uint16_t *)s.pairs + row * CK_KEY_BLOCK + k, &h, sizeof h);
            continue;
        }
#endif
        vstore(scores + k, p);
    }
    s.weight[row] += vsum(total);
}

static void attention(
    const ck_attention_head *head, const ck_attention_queries *queries, const void *packed_keys,
    const void *packed_values, void *scratch) {
    bool pairs = in_pairs(head->type);
    int64_t depth = depth_words(head->type, head->head_size), columns = round_up(head->head_size, CK_LANES);
    int64_t block_bytes = packed_block_bytes(head->type, head->head_size);
    int64_t rows = round_up(queries->count, CK_TILE_ROWS);
    attention_scratch s = lay_out(head->type, head->head_size, scratch);
    __builtin_memset(s.queries, 0, (size_t)(rows * depth * 4));
    __builtin_memset(s.sums, 0, (size_t)(rows * columns * 4));
    // Rows that only fill the last tile keep zero probabilities.
    __builtin_memset(pairs ? (void *)s.pairs : (void *)s.scores, 0, (size_t)(rows * CK_KEY_BLOCK * (pairs ? 2 : 4)));
    for (int64_t r = 0; r < queries->count; r++) {
        row_words(head, queries->queries, r, s.queries + r * depth);
        s.maximum[r] = CK_HIDDEN;
        s.weight[r] = 0;
    }
    for (int64_t first = 0; first < head->keys; first += CK_KEY_BLOCK) {
        int64_t count = head->keys - first < CK_KEY_BLOCK ? head->keys - first : CK_KEY_BLOCK;
        int64_t width = round_up(count, CK_LANES);
        const char *k = (const char *)packed_keys + first / CK_KEY_BLOCK * block_bytes;
        const char *v = (const char *)packed_values + first / CK_KEY_BLOCK * block_bytes;
        product(
            pairs, rows, round_up(count, CK_PANEL), s.queries, depth, (const uint32_t *)k, CK_PANEL * depth, depth,
            s.scores, CK_KEY_BLOCK, false);
        for (int64_t r = 0; r < queries->count; r++)
            soften_row(
                head, s, r, queries->bias ? queries->bias + r * queries->bias_stride + first : NULL, count, width,
                columns);
        product(
            pairs, rows, columns, pairs ? s.pairs : (const uint32_t *)s.scores,
            pairs ? CK_KEY_BLOCK / 2 : CK_KEY_BLOCK, (const uint32_t *)v,
            CK_PANEL * (CK_KEY_BLOCK / (pairs ? 2 : 1)), pairs ? (count + 1) / 2 : count, s.sums, columns, true);
    }
    for (int64_t r = 0; r < queries->count; r++) {
        float inverse = 1.0f / s.weight[r];
        for (int64_t c = 0; c < head->head_size; c += CK_LANES)
            store_some(
                head->type, queries->result, r * head->row_stride + c, head->head_size - c,
                vload(s.sums + r * columns + c) * inverse);
    }
}
