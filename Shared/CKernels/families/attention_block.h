// Softmax attention in the blocked form of ck_attention.h, on the register tile of tile.h.
//
// The scores of a tile never leave the registers as floats: they are turned into probabilities relative to a reference
// of their row, and stored in the form in which they multiply the values. The reference is the row's first maximum and
// moves only when a later score exceeds it by more than CK_HEADROOM: sums stay far from overflow, probabilities that
// matter far from underflow, and nearly every block passes without a rescaling.

#define CK_HEADROOM 40.0f  // in units of log2

/// Places inside the scratch of one call.
typedef struct {
    uint32_t *queries;        // [CK_QUERY_BLOCK, depth]
    float *query_scales;      // [CK_QUERY_BLOCK], in int8
    uint32_t *probabilities;  // [CK_TILE_ROWS, words of CK_KEY_BLOCK]
    float *sums;              // [CK_QUERY_BLOCK, columns]: the result before division
    float *weights;           // [CK_QUERY_BLOCK, CK_LANES]: the sum of probabilities, lane by lane
    float *references;        // [CK_QUERY_BLOCK]: what the probabilities of a row are relative to, in units of log2
    int64_t bytes;
} attention_scratch;

CK_INLINE attention_scratch lay_out(ck_type type, int64_t head_size, char *base) {
    attention_scratch s;
    int64_t at = 0;
    s.queries = (uint32_t *)(base + at);
    at += round_up(CK_QUERY_BLOCK * depth_words(type, head_size) * 4, 64);
    s.probabilities = (uint32_t *)(base + at);
    at += CK_TILE_ROWS * CK_KEY_BLOCK * 4;
    s.sums = (float *)(base + at);
    at += round_up(CK_QUERY_BLOCK * round_up(head_size, CK_LANES) * 4, 64);
    s.weights = (float *)(base + at);
    at += CK_QUERY_BLOCK * CK_LANES * 4;
    s.references = (float *)(base + at);
    at += CK_QUERY_BLOCK * 4;
    s.query_scales = (float *)(base + at);
    s.bytes = at + CK_QUERY_BLOCK * 4;
    return s;
}
static int64_t attention_scratch_bytes(ck_type type, int64_t head_size) {
    static char none[64];
    return lay_out(type, head_size, none).bytes;
}

/// A tile of rows on its way over one block of keys.
typedef struct {
    const ck_attention_queries *queries;
    float factor;          // from a score to units of log2
    int64_t row, columns;  // first row; channels rounded up to whole vectors
    int64_t first, count;  // keys of the block
} attention_pass;

/// Raises the references of the rows whose highest score exceeds them by CK_HEADROOM, and scales what was summed before.
static __attribute__((noinline)) bool move_references(
    const vf highest[CK_TILE_ROWS], attention_scratch s, const attention_pass *pass) {
    bool moved = false;
    for (int r = 0; r < CK_TILE_ROWS; r++) {
        int64_t row = pass->row + r;
        float top = vmaximum(highest[r]) * pass->factor, old = s.references[row];
        if (!(top > old + CK_HEADROOM)) continue;
        moved = true;
        float keep = vexp2(vset(old - top), false)[0];
        s.references[row] = top;
        vstore(s.weights + row * CK_LANES, vload(s.weights + row * CK_LANES) * keep);
        for (int64_t c = 0; c < pass->columns; c += CK_LANES) {
            float *sum = s.sums + row * pass->columns + c;
            vstore(sum, vload(sum) * keep);
        }
    }
    return moved;
}

/// Adds the bias to a tile of scores, in their units, and hides the lanes beyond the last key.
CK_INLINE void bias_and_hide(tile_sums *tile, const attention_pass *pass, float scale, int64_t key) {
    const ck_attention_queries *q = pass->queries;
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < CK_TILE_VECTORS; v++) {
            int64_t at = key + v * CK_LANES, n = pass->count - at;
            if (n > CK_LANES) n = CK_LANES;
            vf x = tile->sums[r][v];
            if (q->bias && n > 0 && pass->row + r < q->count)
                x += load_some(CK_F32, q->bias + (pass->row + r) * q->bias_stride + pass->first, at, n) * (1.0f / scale);
            tile->sums[r][v] = vselect(vlanes() < (int32_t)n, x, vset(CK_HIDDEN));
        }
}

/// Turns a tile of scores into probabilities.
CK_INLINE void soften(
    word_kind kind, const tile_sums *tile, attention_scratch s, const attention_pass *pass, int64_t key,
    vf weights[CK_TILE_ROWS]) {
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) {
        float reference = s.references[pass->row + r];
        uint32_t *out = s.probabilities + r * (kind == CK_PAIRS ? CK_KEY_BLOCK / 2 : CK_KEY_BLOCK);
        vf p[CK_TILE_VECTORS];
#pragma clang loop unroll(full)
        for (int v = 0; v < CK_TILE_VECTORS; v++) {
            p[v] = vexp2(tile->sums[r][v] * pass->factor - reference, kind == CK_PAIRS);
            weights[r] += p[v];
        }
#ifdef CK_HAS_BF16
        if (kind == CK_PAIRS) {
#pragma clang loop unroll(full)
            for (int v = 0; v < CK_TILE_VECTORS; v += 2) {
                __m512bh h = _mm512_cvtne2ps_pbh((__m512)p[v + 1], (__m512)p[v]);
                __builtin_memcpy(out + (key + v * CK_LANES) / 2, &h, sizeof h);
            }
            continue;
        }
#endif
#pragma clang loop unroll(full)
        for (int v = 0; v < CK_TILE_VECTORS; v++) vstore((float *)out + key + v * CK_LANES, p[v]);
    }
}

/// One tile of rows against one block of keys: probabilities, then their product with the values.
CK_INLINE void attend_block(
    word_kind kind, const ck_attention_head *head, attention_scratch s, const attention_pass *pass,
    const uint32_t *keys, const uint32_t *values) {
    int64_t depth = depth_words(head->type, head->head_size);
    const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] = s.queries + (pass->row + r) * depth;
    vf weights[CK_TILE_ROWS] = {};
    for (int64_t key = 0; key < pass->count; key += CK_PANEL) {
        tile_sums tile;
        tile_clear(CK_TILE_VECTORS, &tile);
        accumulate(kind, CK_TILE_VECTORS, rows, keys + key * depth, depth, &tile);
        if (pass->queries->bias || key + CK_PANEL > pass->count) bias_and_hide(&tile, pass, head->scale, key);
        vf highest[CK_TILE_ROWS];
        vi exceeds = {};
#pragma clang loop unroll(full)
        for (int r = 0; r < CK_TILE_ROWS; r++) {
            highest[r] = tile.sums[r][0];
#pragma clang loop unroll(full)
            for (int v = 1; v < CK_TILE_VECTORS; v++) highest[r] = vmax(highest[r], tile.sums[r][v]);
            exceeds |= highest[r] * pass->factor > s.references[pass->row + r] + CK_HEADROOM;
        }
        if (__builtin_expect(vany(exceeds), false) && move_references(highest, s, pass) && key > 0) {
            // The probabilities of this block are relative to what was: once more from its start.
#pragma clang loop unroll(full)
            for (int r = 0; r < CK_TILE_ROWS; r++) weights[r] = (vf){};
            key = -CK_PANEL;
            continue;
        }
        soften(kind, &tile, s, pass, key, weights);
    }
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) {
        float *weight = s.weights + (pass->row + r) * CK_LANES;
        vstore(weight, vload(weight) + weights[r]);
    }
    int64_t stride = kind == CK_PAIRS ? CK_KEY_BLOCK / 2 : CK_KEY_BLOCK;
    int64_t words = kind == CK_PAIRS ? (pass->count + 1) / 2 : pass->count;
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] = s.probabilities + r * stride;
    float *sums = s.sums + pass->row * pass->columns;
    for (int64_t c = 0; c < pass->columns; c += CK_PANEL, values += CK_PANEL * stride) {
        tile_sums tile;
        switch ((pass->columns - c) / CK_LANES) {
#define CK_CASE(vectors)                                             \
    tile_load(vectors, &tile, sums + c, pass->columns);              \
    accumulate(kind, vectors, rows, values, words, &tile);           \
    tile_store(vectors, &tile, sums + c, pass->columns);             \
    break;
        case 1: CK_CASE(1)
#if CK_LANES == 16
        case 2: CK_CASE(2)
        case 3: CK_CASE(3)
#endif
        default: CK_CASE(CK_TILE_VECTORS)
#undef CK_CASE
        }
    }
}
