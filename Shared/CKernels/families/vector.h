// Vectors of CK_LANES floats, for the families below. Included once per instruction set with CK_LANES defined, inside
// that set's target attribute; everything is static, so the sets cannot mix.
#include "../include/ck_types.h"

#define CK_INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(4 * CK_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * CK_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * CK_LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * CK_LANES)));
typedef double vd __attribute__((vector_size(8 * CK_LANES)));

CK_INLINE vf vset(float value) { return (vf){} + value; }
CK_INLINE vf vload(const float *p) {
    vf v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
CK_INLINE void vstore(float *p, vf v) { __builtin_memcpy(p, &v, sizeof v); }
CK_INLINE vf vselect(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
/// The larger lanes; b where either is NaN.
CK_INLINE vf vmax(vf a, vf b) {
#if CK_LANES == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif CK_LANES == 8
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vselect(a > b, a, b);
#endif
}
/// 0, 1, 2, …
CK_INLINE vi vlanes(void) {
#if CK_LANES == 16
    return (vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif CK_LANES == 8
    return (vi){0, 1, 2, 3, 4, 5, 6, 7};
#else
    return (vi){0, 1, 2, 3};
#endif
}
/// Whether any lane of a comparison holds.
CK_INLINE bool vany(vi mask) {
#if CK_LANES == 16
    return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif CK_LANES == 8
    return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

// bfloat16 is the upper half of a float; rounding is to nearest, ties to even, and NaN stays a quiet NaN.
CK_INLINE vf vf_of_bf16(vh h) { return (vf)(__builtin_convertvector(h, vu) << 16); }
CK_INLINE vh bf16_of_vf(vf v) {
    vu bits = (vu)v;
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    vu quiet = (bits >> 16) | 0x40;
    vu nan = (vu)(v != v);
    return __builtin_convertvector((nan & quiet) | (~nan & rounded), vh);
}
CK_INLINE float float_of_bf16(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    __builtin_memcpy(&f, &bits, 4);
    return f;
}
CK_INLINE uint16_t bf16_of_float(float f) {
    uint32_t bits;
    __builtin_memcpy(&bits, &f, 4);
    if (f != f) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Elements of an activation, by type. `n` is the number of lanes that exist: a tail reads zeros beyond and writes
// nothing beyond.
CK_INLINE vf load_as(ck_type type, const void *p, int64_t i) {
    if (type == CK_F32) return vload((const float *)p + i);
    vh h;
    __builtin_memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return vf_of_bf16(h);
}
CK_INLINE vf load_tail(ck_type type, const void *p, int64_t i, int64_t n) {
#if CK_LANES == 16
    if (n <= 0) return (vf){};
    __mmask16 mask = (__mmask16)(0xffffu >> (16 - n));
    if (type == CK_F32) return (vf)_mm512_maskz_loadu_ps(mask, (const float *)p + i);
    return vf_of_bf16((vh)_mm256_maskz_loadu_epi16(mask, (const uint16_t *)p + i));
#endif
    vf v = {};
    for (int64_t k = 0; k < n; k++)
        v[k] = type == CK_F32 ? ((const float *)p)[i + k] : float_of_bf16(((const uint16_t *)p)[i + k]);
    return v;
}
CK_INLINE vf load_some(ck_type type, const void *p, int64_t i, int64_t n) {
    return n >= CK_LANES ? load_as(type, p, i) : load_tail(type, p, i, n);
}
CK_INLINE void store_some(ck_type type, void *p, int64_t i, int64_t n, vf v) {
    if (type == CK_F32) {
        if (n >= CK_LANES) return vstore((float *)p + i, v);
        for (int64_t k = 0; k < n; k++) ((float *)p)[i + k] = v[k];
    } else {
#ifdef CK_HAS_BF16
        vh h = (vh)_mm512_cvtneps_pbh((__m512)v);
#else
        vh h = bf16_of_vf(v);
#endif
        if (n >= CK_LANES) {
            __builtin_memcpy((uint16_t *)p + i, &h, sizeof h);
            return;
        }
        for (int64_t k = 0; k < n; k++) ((uint16_t *)p)[i + k] = h[k];
    }
}

// Lanes exchanged with those `w` places further, for reductions; quarter_turn serves the rotary embedding.
#if CK_LANES == 16
#define CK_HALVES(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define CK_QUARTERS(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define CK_PAIRS(v) __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define CK_SINGLES(v) __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#define CK_SIGNS {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1}
#elif CK_LANES == 8
#define CK_HALVES(v) (v)
#define CK_QUARTERS(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#define CK_PAIRS(v) __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
#define CK_SINGLES(v) __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
#define CK_SIGNS {-1, 1, -1, 1, -1, 1, -1, 1}
#else
#define CK_HALVES(v) (v)
#define CK_QUARTERS(v) (v)
#define CK_PAIRS(v) __builtin_shufflevector(v, v, 2, 3, 0, 1)
#define CK_SINGLES(v) __builtin_shufflevector(v, v, 1, 0, 3, 2)
#define CK_SIGNS {-1, 1, -1, 1}
#endif

/// Sum of the lanes, always in the same tree.
CK_INLINE float vsum(vf v) {
    if (CK_LANES > 8) v += CK_HALVES(v);
    if (CK_LANES > 4) v += CK_QUARTERS(v);
    v += CK_PAIRS(v);
    v += CK_SINGLES(v);
    return v[0];
}
CK_INLINE float vmaximum(vf v) {
    if (CK_LANES > 8) v = vmax(v, CK_HALVES(v));
    if (CK_LANES > 4) v = vmax(v, CK_QUARTERS(v));
    v = vmax(v, CK_PAIRS(v));
    v = vmax(v, CK_SINGLES(v));
    return v[0];
}
/// (x0, x1) → (−x1, x0) in every pair of lanes.
CK_INLINE vf quarter_turn(vf v) {
    const vf signs = CK_SIGNS;
    return CK_SINGLES(v) * signs;
}

#define CK_ROUNDER 12582912.0f  // 1.5·2^23: adding it rounds to an integer, held in the low bits

/// 2^x for x ≤ 127, as far down as CK_HIDDEN, where it is 0. NaN gives NaN. Polynomials are minimax on |r| ≤ 1/2: of
/// degree 6 (relative error 2e-9), or of degree 3 (7e-5) when `coarse`, for results that become bfloat16.
#define CK_HIDDEN (-1e30f)
CK_INLINE vf vexp2(vf x, bool coarse) {
    // Held where the result is still a normal number; the operand order keeps NaN.
    vf held = vmax(vset(-126.0f), x);
    vf shifted = held + CK_ROUNDER;
    vf r = held - (shifted - CK_ROUNDER);
    vf p;
    if (coarse) {
        p = vset(0.0551716685f) * r + 0.24261114f;
        p = p * r + 0.693260968f;
        p = p * r + 0.999928057f;
    } else {
        p = vset(0.000153458118f) * r + 0.00133999312f;
        p = p * r + 0.00961848896f;
        p = p * r + 0.0555032878f;
        p = p * r + 0.240226469f;
        p = p * r + 0.693147206f;
        p = p * r + 1.0f;
    }
    return (vf)((vi)p + ((vi)shifted << 23));
}
/// e^x; 0 below −87, and held at e^88 above 88. NaN gives NaN. Cody–Waite reduction in two parts.
CK_INLINE vf vexp(vf x) {
    vf held = vselect(x > 88.0f, vset(88.0f), x);
    vf shifted = held * 1.44269504f + CK_ROUNDER;
    vf n = shifted - CK_ROUNDER;
    vf r = held - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vf p = vset(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vi exponent = (vi)shifted - (vi)vset(CK_ROUNDER);
    vf y = (vf)((vi)p + (exponent << 23));
    return vselect(x != x, x, vselect(x < -87.0f, (vf){}, y));
}
/// x / (1 + e^(−y)); `coarse` for results that become bfloat16.
CK_INLINE vf vsigmoid_times(vf x, vf y, bool coarse) {
#if CK_LANES == 16
    if (coarse) {
        vf t = vexp2(-vmax(vset(-126.0f), y * 1.44269504f), true) + 1.0f;
        return x * (vf)_mm512_rcp14_ps((__m512)t);
    }
#endif
    (void)coarse;
    return x / (1.0f + vexp(-y));
}
CK_INLINE vf vsilu(vf x, bool coarse) { return vsigmoid_times(x, x, coarse); }
/// ½x(1 + tanh u) = x / (1 + e^(−2u)), u = √(2/π)·(x + 0.044715 x³).
CK_INLINE vf vgelu_tanh(vf x, bool coarse) {
    return vsigmoid_times(x, x * (1.5957691216f + 0.0713548162726f * (x * x)), coarse);
}
CK_INLINE vf vactivate(ck_activation activation, vf x, bool coarse) {
    if (activation == CK_SILU) return vsilu(x, coarse);
    if (activation == CK_GELU_TANH) return vgelu_tanh(x, coarse);
    return x;
}
