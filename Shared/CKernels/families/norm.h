// LayerNorm, RMSNorm, and the per-head LayerNorm with rotary embedding.

/// Mean and 1/√(variance + ε) of `count` elements from x[i], in two passes.
CK_INLINE void moments(
    ck_type type, const void *x, int64_t i, int64_t count, float epsilon, float *mean, float *inverse) {
    vf sum = {};
    for (int64_t c = 0; c < count; c += CK_LANES) sum += load_some(type, x, i + c, count - c);
    *mean = vsum(sum) / (float)count;
    vf squares = {};
    int64_t c = 0;
    for (; c + CK_LANES <= count; c += CK_LANES) {
        vf d = load_as(type, x, i + c) - *mean;
        squares += d * d;
    }
    float total = vsum(squares);
    for (; c < count; c++) {
        float d = load_tail(type, x, i + c, 1)[0] - *mean;
        total += d * d;
    }
    *inverse = 1.0f / __builtin_sqrtf(total / (float)count + epsilon);
}

static void layer_norm(
    ck_type type, const void *x, void *y, int64_t channels, float epsilon, const float *weight, const float *bias,
    const float *scale, const float *shift, int64_t lo, int64_t hi) {
    for (int64_t row = lo; row < hi; row++) {
        int64_t i = row * channels;
        float mean, inverse;
        moments(type, x, i, channels, epsilon, &mean, &inverse);
        for (int64_t c = 0; c < channels; c += CK_LANES) {
            int64_t n = channels - c;
            vf v = (load_some(type, x, i + c, n) - mean) * inverse;
            if (weight) v = v * load_some(CK_F32, weight, c, n);
            if (bias) v += load_some(CK_F32, bias, c, n);
            if (scale) v = v * (1.0f + load_some(CK_F32, scale, c, n));
            if (shift) v += load_some(CK_F32, shift, c, n);
            store_some(type, y, i + c, n, v);
        }
    }
}

static void rms_norm(
    ck_type type, const void *x, void *y, int64_t channels, float epsilon, const float *weight, int64_t lo,
    int64_t hi) {
    for (int64_t row = lo; row < hi; row++) {
        int64_t i = row * channels;
        vf squares = {};
        for (int64_t c = 0; c < channels; c += CK_LANES) {
            vf v = load_some(type, x, i + c, channels - c);
            squares += v * v;
        }
        float inverse = 1.0f / __builtin_sqrtf(vsum(squares) / (float)channels + epsilon);
        for (int64_t c = 0; c < channels; c += CK_LANES) {
            int64_t n = channels - c;
            vf v = load_some(type, x, i + c, n) * inverse * load_some(CK_F32, weight, c, n);
            store_some(type, y, i + c, n, v);
        }
    }
}

static void normalize_heads(
    ck_type type, const void *x, void *y, int64_t heads, int64_t head_size, float epsilon, const float *weight,
    const float *bias, const float *cosines, const float *sines, int64_t rotary_start, int64_t lo, int64_t hi) {
    for (int64_t row = lo; row < hi; row++) {
        int64_t angle = (row - rotary_start) * head_size;
        bool rotated = cosines && sines && row >= rotary_start;
        for (int64_t head = 0; head < heads; head++) {
            int64_t i = (row * heads + head) * head_size;
            float mean, inverse;
            moments(type, x, i, head_size, epsilon, &mean, &inverse);
            for (int64_t c = 0; c < head_size; c += CK_LANES) {
                int64_t n = head_size - c;
                vf v = (load_some(type, x, i + c, n) - mean) * inverse;
                v = v * load_some(CK_F32, weight, c, n) + load_some(CK_F32, bias, c, n);
                if (rotated)
                    v = v * load_some(CK_F32, cosines, angle + c, n)
                        + quarter_turn(v) * load_some(CK_F32, sines, angle + c, n);
                store_some(type, y, i + c, n, v);
            }
        }
    }
}
