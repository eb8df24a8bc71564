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

/// One head of `size` channels at x[i], normalised and, with angles, rotated, to y[j].
CK_INLINE void normalize_head(
    ck_type from, const void *x, int64_t i, ck_type to, void *y, int64_t j, int64_t size, float epsilon,
    const float *weight, const float *bias, const float *cosines, const float *sines) {
    float mean, inverse;
    moments(from, x, i, size, epsilon, &mean, &inverse);
    for (int64_t c = 0; c < size; c += CK_LANES) {
        int64_t n = size - c;
        vf v = (load_some(from, x, i + c, n) - mean) * inverse;
        v = v * load_some(CK_F32, weight, c, n) + load_some(CK_F32, bias, c, n);
        if (cosines) v = v * load_some(CK_F32, cosines, c, n) + quarter_turn(v) * load_some(CK_F32, sines, c, n);
        store_some(to, y, j + c, n, v);
    }
}

static void finish_heads(
    ck_type type, float *x, int64_t x_stride, const float *bias, const ck_head_norm *norm, int64_t position, void *y,
    int64_t y_stride, int64_t rows, int64_t columns) {
    int64_t size = norm->head_size;
    for (int64_t r = 0; r < rows; r++) {
        float *row = x + r * x_stride;
        for (int64_t c = 0; bias && c < columns; c += CK_LANES)
            store_some(
                CK_F32, row, c, columns - c,
                load_some(CK_F32, row, c, columns - c) + load_some(CK_F32, bias, c, columns - c));
        int64_t angle = ((position + r) % norm->period - norm->rotary_start) * size;
        const float *cosines = norm->cosines && angle >= 0 ? norm->cosines + angle : NULL;
        const float *sines = cosines ? norm->sines + angle : NULL;
        for (int64_t c = 0; c < columns; c += size) {
            // The size of every released model, known to the compiler.
            if (size == 64)
                normalize_head(
                    CK_F32, row, c, type, y, r * y_stride + c, 64, norm->epsilon, norm->weight, norm->bias, cosines,
                    sines);
            else
                normalize_head(
                    CK_F32, row, c, type, y, r * y_stride + c, size, norm->epsilon, norm->weight, norm->bias, cosines,
                    sines);
        }
    }
}
