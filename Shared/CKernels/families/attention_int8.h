// Attention whose two products are of int8, over heads of 64 channels.
//
// Queries have a scale each, keys one for every panel, values one for each channel of a block, and the probabilities of
// a row and a panel are 255ths of the largest among them: one loud key makes no other panel coarse. Probabilities are
// made while the scores of the next panel are multiplied, as in attention_overlapped.h.

#ifdef CK_HAS_BF16

/// A tile of scores that are to become probabilities, and what its rows go by.
typedef struct {
    float scores[CK_TILE_ROWS][CK_PANEL] __attribute__((aligned(64)));
    float factors[CK_LANES];     // from scores to units of log2
    float references[CK_LANES];  // what a probability is relative to, so that the largest is 255
    float shares[CK_LANES];      // a row's 255ths in this panel, in units of its sums
} int8_scores;

/// The panel's scores of one row; the bytes come in the order of int8_key.
CK_INLINE void soften_int8(const int8_scores *w, int64_t row, uint32_t *probabilities, float *weights) {
    __m512 reference = _mm512_set1_ps(w->references[row]), factor = _mm512_set1_ps(w->factors[row]);
    __m512i q[CK_TILE_VECTORS];
#pragma clang loop unroll(full)
    for (int v = 0; v < CK_TILE_VECTORS; v++) {
        __m512 x = _mm512_fmsub_ps(_mm512_load_ps(w->scores[row] + v * CK_LANES), factor, reference);
        q[v] = _mm512_cvtps_epi32(exp2_scaled(x));
    }
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(q[0], q[1]), _mm512_add_epi32(q[2], q[3]));
    __m512i low = _mm512_packus_epi32(q[0], q[1]), high = _mm512_packus_epi32(q[2], q[3]);
    _mm512_store_si512(probabilities + row * CK_INT8_WORDS, _mm512_packus_epi16(low, high));
    float *weight = weights + row * CK_LANES;
    __m512 share = _mm512_set1_ps(w->shares[row]);
    _mm512_storeu_ps(weight, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), share, _mm512_loadu_ps(weight)));
}

/// The int32 scores of a tile of rows and a panel of keys; `waiting` becomes probabilities meanwhile.
CK_INLINE void score_int8(
    attention_scratch s, const attention_pass *pass, const int8_keys *keys, const int8_scores *waiting,
    tile_sums *tile) {
    const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) {
        rows[r] = s.queries + (pass->row + r) * CK_INT8_WORDS;
#pragma clang loop unroll(full)
        for (int v = 0; v < CK_TILE_VECTORS; v++)
            tile->sums[r][v] = vload((const float *)keys->corrections + v * CK_LANES);
    }
    int64_t k = 0;
#pragma clang loop unroll(full)
    for (int64_t row = 0; row < CK_TILE_ROWS; row++) {
        if (waiting) soften_int8(waiting, row, s.probabilities, s.weights + pass->row * CK_LANES);
        int64_t depth = (row + 1) * CK_INT8_WORDS / CK_TILE_ROWS - k;
        accumulate(CK_QUADS, CK_TILE_VECTORS, rows, keys->words[k], depth, tile);
#pragma clang loop unroll(full)
        for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] += depth;
        k += depth;
    }
}

/// Adds the product of the probabilities that were made and the values of their panel to the sums, which are in
/// units of the block.
CK_INLINE void add_int8_values(
    attention_scratch s, const attention_pass *pass, const uint32_t *values, const int8_scores *made) {
    const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] = s.probabilities + r * CK_INT8_WORDS;
    tile_sums tile;
    tile_clear(CK_TILE_VECTORS, &tile);
    accumulate(CK_QUADS, CK_TILE_VECTORS, rows, values, CK_INT8_WORDS, &tile);
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < CK_TILE_VECTORS; v++) {
            float *sum = s.sums + (pass->row + r) * CK_HEAD + v * CK_LANES;
            vf product = (vf)_mm512_cvtepi32_ps((__m512i)tile.sums[r][v]);
            vstore(sum, vload(sum) + product * made->shares[r]);
        }
}

/// Stores a tile of scores as floats, and the highest of each lane.
CK_INLINE void keep_int8_scores(const tile_sums *tile, int64_t count, int8_scores *out, vf highest[CK_TILE_ROWS]) {
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < CK_TILE_VECTORS; v++) {
            vf x = (vf)_mm512_cvtepi32_ps((__m512i)tile->sums[r][v]);
            if (__builtin_expect(count < CK_PANEL, false))
                x = vselect(vlanes() < (int32_t)(count - v * CK_LANES), x, vset(-__builtin_inff()));
            vstore(out->scores[r] + v * CK_LANES, x);
            highest[r] = v ? vmax(highest[r], x) : x;
        }
}

/// The largest lane of each of six vectors, in lanes 0...5.
CK_INLINE __m512 six_maxima(const vf x[CK_TILE_ROWS]) {
    __m512 halves[3];
#pragma clang loop unroll(full)
    for (int i = 0; i < 3; i++) {
        __m512 a = (__m512)x[2 * i], b = (__m512)x[2 * i + 1];
        halves[i] = _mm512_max_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    __m512 a = _mm512_max_ps(
        _mm512_shuffle_f32x4(halves[0], halves[1], 0x88), _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd));
    __m512 b = _mm512_max_ps(
        _mm512_shuffle_f32x4(halves[2], halves[2], 0x88), _mm512_shuffle_f32x4(halves[2], halves[2], 0xdd));
    // Four lanes of a row are left in each quarter; a's go to even places, b's to odd ones.
    __m512 c = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    c = _mm512_max_ps(c, _mm512_permute_ps(c, 0x4e));
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), c);
}

/// Finds what makes probabilities of the scores, and raises references that they exceed; `pending` is the panel whose
/// product with the values is not yet in the sums.
CK_INLINE void settle_int8_scores(
    attention_scratch s, const attention_pass *pass, const int8_keys *keys, const vf highest[CK_TILE_ROWS],
    int8_scores *pending, int8_scores *out) {
    const __mmask16 rows = (1 << CK_TILE_ROWS) - 1;
    __m512 factors = _mm512_mul_ps(
        _mm512_maskz_loadu_ps(rows, s.query_scales + pass->row), _mm512_set1_ps(pass->factor * keys->scale));
    __m512 tops = _mm512_maskz_mul_ps(rows, six_maxima(highest), factors);
    __m512 reference = _mm512_maskz_loadu_ps(rows, s.references + pass->row);
    __mmask16 exceeds = _mm512_cmp_ps_mask(
        tops, _mm512_add_ps(reference, _mm512_set1_ps(CK_HEADROOM)), _CMP_GT_OQ);
    if (__builtin_expect(exceeds != 0, false)) {
        vf raised[CK_TILE_ROWS];
        attention_pass in_log2 = *pass;
        in_log2.factor = 1;
        for (int r = 0; r < CK_TILE_ROWS; r++) raised[r] = vset(((vf)tops)[r]);
        move_references(raised, s, &in_log2);
        __m512 old = reference;
        reference = _mm512_maskz_loadu_ps(rows, s.references + pass->row);
        if (pending)
            _mm512_storeu_ps(
                pending->shares,
                _mm512_mul_ps(_mm512_loadu_ps(pending->shares), exp2_scaled(_mm512_sub_ps(old, reference))));
    }
    const __m512 log2_of_255 = _mm512_set1_ps(7.99435344f);
    _mm512_storeu_ps(out->factors, factors);
    _mm512_storeu_ps(out->references, _mm512_sub_ps(tops, log2_of_255));
    _mm512_storeu_ps(out->shares, exp2_scaled(_mm512_sub_ps(tops, reference)));
}

/// Multiplies every channel of the sums.
CK_INLINE void scale_sums(attention_scratch s, const attention_pass *pass, const float *factors) {
#pragma clang loop unroll(full)
    for (int v = 0; v < CK_TILE_VECTORS; v++) {
        vf factor = vload(factors + v * CK_LANES);
#pragma clang loop unroll(full)
        for (int r = 0; r < CK_TILE_ROWS; r++) {
            float *sum = s.sums + (pass->row + r) * CK_HEAD + v * CK_LANES;
            vstore(sum, vload(sum) * factor);
        }
    }
}

/// One tile of rows against one block of keys.
static void attend_int8(
    attention_scratch s, const attention_pass *pass, const int8_keys *keys, const int8_values_block *values) {
    int8_scores scores[2];
    tile_sums tile;
    vf highest[CK_TILE_ROWS];
    scale_sums(s, pass, values->inverses);
    score_int8(s, pass, keys, NULL, &tile);
    keep_int8_scores(&tile, pass->count, &scores[0], highest);
    settle_int8_scores(s, pass, keys, highest, NULL, &scores[0]);
    int64_t panel = 1;
    for (; panel * CK_PANEL < pass->count; panel++) {
        int8_scores *waiting = &scores[(panel - 1) % 2], *next = &scores[panel % 2];
        score_int8(s, pass, keys + panel, waiting, &tile);
        keep_int8_scores(&tile, pass->count - panel * CK_PANEL, next, highest);
        settle_int8_scores(s, pass, keys + panel, highest, waiting, next);
        add_int8_values(s, pass, values->words[(panel - 1) * CK_INT8_WORDS], waiting);
    }
    const int8_scores *waiting = &scores[(panel - 1) % 2];
    for (int64_t row = 0; row < CK_TILE_ROWS; row++)
        soften_int8(waiting, row, s.probabilities, s.weights + pass->row * CK_LANES);
    add_int8_values(s, pass, values->words[(panel - 1) * CK_INT8_WORDS], waiting);
    scale_sums(s, pass, values->scales);
}

/// The queries in unsigned int8, each with a scale of its own; negated when the scale is negative.
static void load_int8_queries(
    const ck_attention_head *head, const ck_attention_queries *queries, attention_scratch s) {
    float sign = head->scale >= 0 ? 1.0f : -1.0f;
    for (int64_t r = 0; r < round_up(queries->count, CK_TILE_ROWS); r++) {
        int64_t row = r < queries->count ? r : queries->count - 1;
        vf values[CK_HEAD / CK_LANES], highest = {};
        for (int v = 0; v < CK_HEAD / CK_LANES; v++) {
            values[v] = load_as(head->type, queries->queries, row * head->row_stride + v * CK_LANES) * sign;
            highest = vmax(highest, vmax(values[v], -values[v]));
        }
        s.query_scales[r] = int8_scale(vmaximum(highest));
        float factor = 1.0f / s.query_scales[r];
        for (int v = 0; v < CK_HEAD / CK_LANES; v++) {
            __m512i q = _mm512_cvtps_epi32((__m512)(values[v] * factor));
            __m128i bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(q, _mm512_set1_epi32(128)));
            _mm_storeu_si128((__m128i *)(s.queries + r * CK_INT8_WORDS + v * CK_LANES / 4), bytes);
        }
    }
}

#endif
