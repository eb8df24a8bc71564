// The register tile under every product: CK_TILE_ROWS rows by up to CK_TILE_VECTORS vectors of sums.
//
// Operands are 32-bit words. A word of the left side is broadcast to all lanes; the right side is packed into panels,
// where the words of one depth lie side by side. A word holds one float; or a pair of bfloat16 of neighbouring depth
// (with CK_HAS_BF16; without that instruction bfloat16 is widened to floats when it is packed); or four int8 of
// neighbouring depth, of which the left side is unsigned.

enum {
    CK_TILE_ROWS = 6,
    CK_TILE_VECTORS = CK_LANES == 16 ? 4 : 2,
    CK_PANEL = CK_TILE_VECTORS * CK_LANES,  // columns of a whole panel
    CK_AHEAD = 8,                           // depths between a prefetch of the right side and its use
};

typedef enum { CK_FLOATS, CK_PAIRS, CK_QUADS } word_kind;

CK_INLINE word_kind words_of(ck_type type) {
    if (type == CK_I8) return CK_QUADS;
#ifdef CK_HAS_BF16
    if (type == CK_BF16) return CK_PAIRS;
#endif
    return CK_FLOATS;
}
/// Channels that share a word.
CK_INLINE int64_t channels_per_word(word_kind kind) { return kind == CK_QUADS ? 4 : kind == CK_PAIRS ? 2 : 1; }
CK_INLINE int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

#ifndef CK_HAS_VNNI
/// Σ of four products of an unsigned and a signed byte, exact in 32 bits.
CK_INLINE vi quad_products(vi sum, vu a, vu b) {
#if CK_LANES == 16
    const __m512i low = _mm512_set1_epi32(0x00ff00ff);
    __m512i a0 = _mm512_and_si512((__m512i)a, low), a1 = _mm512_srli_epi16((__m512i)a, 8);
    __m512i b0 = _mm512_srai_epi16(_mm512_slli_epi16((__m512i)b, 8), 8), b1 = _mm512_srai_epi16((__m512i)b, 8);
    return sum + (vi)_mm512_madd_epi16(a0, b0) + (vi)_mm512_madd_epi16(a1, b1);
#elif CK_LANES == 8
    const __m256i low = _mm256_set1_epi32(0x00ff00ff);
    __m256i a0 = _mm256_and_si256((__m256i)a, low), a1 = _mm256_srli_epi16((__m256i)a, 8);
    __m256i b0 = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)b, 8), 8), b1 = _mm256_srai_epi16((__m256i)b, 8);
    return sum + (vi)_mm256_madd_epi16(a0, b0) + (vi)_mm256_madd_epi16(a1, b1);
#else
    for (int i = 0; i < 4; i++) sum += (vi)(a << (24 - 8 * i) >> 24) * ((vi)(b << (24 - 8 * i)) >> 24);
    return sum;
#endif
}
#endif

CK_INLINE vf multiply_add(word_kind kind, vf sum, uint32_t a, vu b) {
    if (kind == CK_QUADS) {
#ifdef CK_HAS_VNNI
        return (vf)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)((vu){} + a), (__m512i)b);
#else
        return (vf)quad_products((vi)sum, (vu){} + a, b);
#endif
    }
#ifdef CK_HAS_BF16
    if (kind == CK_PAIRS) return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)((vu){} + a), (__m512bh)b);
#endif
    float factor;
    __builtin_memcpy(&factor, &a, 4);
    return sum + factor * (vf)b;
}

typedef struct {
    vf sums[CK_TILE_ROWS][CK_TILE_VECTORS];
} tile_sums;

/// sums += a[6, depth] · b[depth, vectors]; a[r] is where the words of row r begin, b a panel of `vectors` vectors.
CK_INLINE void accumulate(
    word_kind kind, int vectors, const uint32_t *const *a, const uint32_t *b, int64_t depth, tile_sums *tile) {
    const uint32_t *rows[CK_TILE_ROWS];
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++) rows[r] = a[r];
    for (int64_t k = 0; k < depth; k++) {
        vu column[CK_TILE_VECTORS];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            __builtin_memcpy(&column[v], b + (k * vectors + v) * CK_LANES, sizeof(vu));
#if CK_LANES == 16
            __builtin_prefetch(b + ((k + CK_AHEAD) * vectors + v) * CK_LANES);
#endif
        }
#pragma clang loop unroll(full)
        for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++)
                tile->sums[r][v] = multiply_add(kind, tile->sums[r][v], rows[r][k], column[v]);
    }
}

CK_INLINE void tile_clear(int vectors, tile_sums *tile) {
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) tile->sums[r][v] = (vf){};
}
CK_INLINE void tile_load(int vectors, tile_sums *tile, const float *c, int64_t stride) {
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) tile->sums[r][v] = vload(c + r * stride + v * CK_LANES);
}
CK_INLINE void tile_store(int vectors, const tile_sums *tile, float *c, int64_t stride) {
#pragma clang loop unroll(full)
    for (int r = 0; r < CK_TILE_ROWS; r++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) vstore(c + r * stride + v * CK_LANES, tile->sums[r][v]);
}
