// Attention over heads of 64 channels in bfloat16, the shape of every CogVideoX: the scores of one panel of keys become
// probabilities while the products of the next one run.
//
// Products keep two of the four vector pipes busy; everything of the exponential but its polynomial runs on the other
// two. A core reorders far fewer instructions than a tile has, so the two are woven together here. The highest score is
// not looked for: a probability beyond CK_HEADROOM shows in the sums, and its block is done again with other references.

#ifdef CK_HAS_BF16

enum {
    CK_PAIR_DEPTH = CK_HEAD / 2,      // words of a key, and of the values' depth that pass meanwhile
    CK_HALF_ROWS = CK_TILE_ROWS * 2,  // of a tile of scores
    CK_WOVEN_STEPS = 4,
};

/// A tile of scores that are to become probabilities.
typedef struct {
    const float *scores;      // [CK_TILE_ROWS, CK_PANEL]
    const float *references;  // [CK_TILE_ROWS]
    float *weights;           // [CK_TILE_ROWS, CK_LANES], added to
    uint32_t *probabilities;  // rows CK_KEY_BLOCK / 2 words apart
    float factor;             // from scores to units of log2
} waiting_scores;

/// 2^x, with the relative error 8e-5 of a polynomial of degree 3; 0 far below, infinite far above.
CK_INLINE __m512 exp2_scaled(__m512 x) {
    __m512 fraction = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(0.0780245215f);
    p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.226067156f));
    p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.695833564f));
    p = _mm512_fmadd_ps(p, fraction, _mm512_set1_ps(0.999925196f));
    return _mm512_scalef_ps(p, x);
}

/// Two vectors of scores: half of the panel's in one row.
CK_INLINE void soften_half(const waiting_scores *w, int64_t half) {
    int64_t row = half / 2, column = half % 2 * 2 * CK_LANES;
    const float *scores = w->scores + row * CK_PANEL + column;
    __m512 reference = _mm512_set1_ps(w->references[row]), factor = _mm512_set1_ps(w->factor);
    __m512 p0 = exp2_scaled(_mm512_fmsub_ps(_mm512_load_ps(scores), factor, reference));
    __m512 p1 = exp2_scaled(_mm512_fmsub_ps(_mm512_load_ps(scores + CK_LANES), factor, reference));
    float *weight = w->weights + row * CK_LANES;
    _mm512_store_ps(weight, _mm512_add_ps(_mm512_load_ps(weight), _mm512_add_ps(p0, p1)));
    __m512bh both = _mm512_cvtne2ps_pbh(p1, p0);
    __builtin_memcpy(w->probabilities + row * (CK_KEY_BLOCK / 2) + column / 2, &both, sizeof both);
}

/// accumulate() over CK_PAIR_DEPTH words, softening a tile of scores on the way.
CK_INLINE void accumulate_woven(
    const uint32_t *const *a, const uint32_t *b, const waiting_scores *waiting, tile_sums *tile) {
    for (int step = 0; step < CK_WOVEN_STEPS; step++) {
        int64_t k = step * (CK_PAIR_DEPTH / CK_WOVEN_STEPS);
#pragma clang loop unroll(full)
        for (int part = 0; part < CK_HALF_ROWS / CK_WOVEN_STEPS; part++)
            soften_half(waiting, step * (CK_HALF_ROWS / CK_WOVEN_STEPS) + part);
        const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
        for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] = a[r] + k;
        accumulate(CK_PAIRS, CK_TILE_VECTORS, rows, b + k * CK_PANEL, CK_PAIR_DEPTH / CK_WOVEN_STEPS, tile);
    }
}

/// The scores of a tile of rows and the panel of keys that begins at `key` of the block; `waiting` becomes
/// probabilities meanwhile, when there is one.
CK_INLINE void score(
    const ck_attention_head *head, attention_scratch s, const attention_pass *pass, const uint32_t *keys, int64_t key,
    const waiting_scores *waiting, tile_sums *tile) {
    const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] = s.queries + (pass->row + r) * CK_PAIR_DEPTH;
    tile_clear(CK_TILE_VECTORS, tile);
    if (waiting) accumulate_woven(rows, keys + key * CK_PAIR_DEPTH, waiting, tile);
    else accumulate(CK_PAIRS, CK_TILE_VECTORS, rows, keys + key * CK_PAIR_DEPTH, CK_PAIR_DEPTH, tile);
    if (pass->queries->bias || key + CK_PANEL > pass->count) bias_and_hide(tile, pass, head->scale, key);
}

CK_INLINE void raise_references(
    const tile_sums *tile, attention_scratch s, const attention_pass *pass) {
    vf highest[CK_TILE_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
        highest[r] = vmax(vmax(tile->sums[r][0], tile->sums[r][1]), vmax(tile->sums[r][2], tile->sums[r][3]));
    move_references(highest, s, pass);
}

/// One tile of rows against one block of keys.
/// - Returns: false, with nothing added to the sums, when a reference has to move first.
CK_INLINE bool attend_woven(
    const ck_attention_head *head, attention_scratch s, const attention_pass *pass, const uint32_t *keys,
    const uint32_t *values) {
    float scores[2][CK_TILE_ROWS * CK_PANEL] __attribute__((aligned(64)));
    float weights[CK_TILE_ROWS * CK_LANES] __attribute__((aligned(64))) = {0};
    waiting_scores waiting = {scores[0], s.references + pass->row, weights, s.probabilities, pass->factor};
    tile_sums tile;
    score(head, s, pass, keys, 0, NULL, &tile);
    if (pass->first == 0) raise_references(&tile, s, pass);
    tile_store(CK_TILE_VECTORS, &tile, scores[0], CK_PANEL);
    for (int64_t key = CK_PANEL, turn = 1; key < pass->count; key += CK_PANEL, turn = !turn) {
        score(head, s, pass, keys, key, &waiting, &tile);
        tile_store(CK_TILE_VECTORS, &tile, scores[turn], CK_PANEL);
        waiting.scores = scores[turn];
        waiting.probabilities += CK_PANEL / 2;
    }
    const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] = s.probabilities + r * (CK_KEY_BLOCK / 2);
    int64_t words = (pass->count + 1) / 2, done = 0;
    float *sums = s.sums + pass->row * pass->columns;
    tile_load(CK_TILE_VECTORS, &tile, sums, pass->columns);
    // The first probabilities meet the values while the last ones are made.
    if (words >= CK_PAIR_DEPTH + CK_PANEL / 2) {
        accumulate_woven(rows, values, &waiting, &tile);
        done = CK_PAIR_DEPTH;
    } else {
        for (int64_t half = 0; half < CK_HALF_ROWS; half++) soften_half(&waiting, half);
    }
    vi exceeds = {};
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) exceeds |= vload(weights + r * CK_LANES) > vset(0x1p40f);
    if (__builtin_expect(vany(exceeds), false)) return false;
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) {
        float *weight = s.weights + (pass->row + r) * CK_LANES;
        vstore(weight, vload(weight) + vload(weights + r * CK_LANES));
        rows[r] += done;
    }
    accumulate(CK_PAIRS, CK_TILE_VECTORS, rows, values + done * CK_PANEL, words - done, &tile);
    tile_store(CK_TILE_VECTORS, &tile, sums, pass->columns);
    return true;
}

/// The same, after raising the references where that is needed.
static void attend_overlapped(
    const ck_attention_head *head, attention_scratch s, const attention_pass *pass, const uint32_t *keys,
    const uint32_t *values) {
    if (__builtin_expect(attend_woven(head, s, pass, keys, values), true)) return;
    for (int64_t key = 0; key < pass->count; key += CK_PANEL) {
        tile_sums tile;
        score(head, s, pass, keys, key, NULL, &tile);
        raise_references(&tile, s, pass);
    }
    attend_woven(head, s, pass, keys, values);
}

#endif
