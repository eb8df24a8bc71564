// Conversions between element types, and the search for values that are not finite.

CK_INLINE uint16_t f16_of_float(float f) {
    uint32_t bits;
    __builtin_memcpy(&bits, &f, 4);
    uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | ((magnitude >> 13) & 0x1ff));
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) {  // subnormal half: the adder rounds at 2^-24 once the value sits beside 0.5
        float positive, half = 0.5f;
        __builtin_memcpy(&positive, &magnitude, 4);
        positive += half;
        uint32_t sum, base;
        __builtin_memcpy(&sum, &positive, 4);
        __builtin_memcpy(&base, &half, 4);
        return (uint16_t)(sign | (sum - base));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
}
CK_INLINE float float_of_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff, bits;
    if (magnitude >= 0x7c00) {
        bits = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13) | (magnitude > 0x7c00 ? 0x400000 : 0);
    } else if (magnitude >= 0x400) {
        bits = sign | ((magnitude << 13) + 0x38000000);
    } else {
        float f = (float)magnitude * 5.9604644775390625e-8f;  // 2^-24
        __builtin_memcpy(&bits, &f, 4);
        bits |= sign;
    }
    float f;
    __builtin_memcpy(&f, &bits, 4);
    return f;
}

static void floats_of_f16(const uint16_t *x, float *y, int64_t count) {
    int64_t i = 0;
#ifdef CK_HAS_F16C
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
#endif
    for (; i < count; i++) y[i] = float_of_f16(x[i]);
}
static void f16_of_floats(const float *x, uint16_t *y, int64_t count) {
    int64_t i = 0;
#ifdef CK_HAS_F16C
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < count; i++) y[i] = f16_of_float(x[i]);
}

/// Up to `count` elements of any type as floats; the caller keeps count within the buffer.
static void to_floats(ck_type from, const void *x, float *y, int64_t count) {
    if (from == CK_F16) return floats_of_f16(x, y, count);
    if (from == CK_U8) {
        for (int64_t i = 0; i < count; i++) y[i] = ((const uint8_t *)x)[i];
    } else if (from == CK_I32) {
        for (int64_t i = 0; i < count; i++) y[i] = (float)((const int32_t *)x)[i];
    } else if (from == CK_BF16) {
        for (int64_t i = 0; i < count; i += CK_LANES)
            store_some(CK_F32, y, i, count - i, load_some(CK_BF16, x, i, count - i));
    } else {
        __builtin_memcpy(y, x, (size_t)count * 4);
    }
}
static void from_floats(const float *x, ck_type to, void *y, int64_t count) {
    if (to == CK_F16) return f16_of_floats(x, y, count);
    if (to == CK_BF16) {
        // Exact for subnormal numbers too, which the processor's own conversion flushes.
        for (int64_t i = 0; i < count; i += CK_LANES) {
            int64_t n = count - i < CK_LANES ? count - i : CK_LANES;
            vh h = bf16_of_vf(load_some(CK_F32, x, i, n));
            __builtin_memcpy((uint16_t *)y + i, &h, (size_t)n * 2);
        }
    } else {
        __builtin_memcpy(y, x, (size_t)count * 4);
    }
}

CK_INLINE int64_t bytes_of(ck_type type) { return type == CK_U8 ? 1 : type == CK_F32 || type == CK_I32 ? 4 : 2; }

static void convert(ck_type from, const void *x, ck_type to, void *y, int64_t count) {
    if (from == to) {
        __builtin_memcpy(y, x, (size_t)(count * bytes_of(from)));
    } else if (to == CK_F32) {
        to_floats(from, x, y, count);
    } else if (from == CK_F32) {
        from_floats(x, to, y, count);
    } else {
        float part[512];
        for (int64_t i = 0; i < count; i += 512) {
            int64_t n = count - i < 512 ? count - i : 512;
            to_floats(from, (const char *)x + i * bytes_of(from), part, n);
            from_floats(part, to, (char *)y + i * bytes_of(to), n);
        }
    }
}

static int64_t first_non_finite(ck_type type, const void *x, int64_t count) {
    const uint32_t exponent = type == CK_F32 ? 0x7f800000u : type == CK_BF16 ? 0x7f80u : 0x7c00u;
    for (int64_t start = 0; start < count; start += 1024) {
        int64_t end = count - start < 1024 ? count : start + 1024;
        uint32_t found = 0;
        if (type == CK_F32) {
            const uint32_t *p = x;
            for (int64_t i = start; i < end; i++) found |= (uint32_t)((p[i] & exponent) == exponent);
        } else {
            const uint16_t *p = x;
            for (int64_t i = start; i < end; i++) found |= (uint32_t)((p[i] & exponent) == exponent);
        }
        for (int64_t i = start; found && i < end; i++) {
            uint32_t bits = type == CK_F32 ? ((const uint32_t *)x)[i] : ((const uint16_t *)x)[i];
            if ((bits & exponent) == exponent) return i;
        }
    }
    return -1;
}
