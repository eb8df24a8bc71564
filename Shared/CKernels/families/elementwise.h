// Products, activations, residuals and the end of a matrix product.

static void multiply(ck_type type, const void *a, const void *b, void *y, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i += CK_LANES) {
        int64_t n = hi - i;
        store_some(type, y, i, n, load_some(type, a, i, n) * load_some(type, b, i, n));
    }
}

static void mean(ck_type type, const void *a, const void *b, void *y, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i += CK_LANES) {
        int64_t n = hi - i;
        store_some(type, y, i, n, (load_some(type, a, i, n) + load_some(type, b, i, n)) * 0.5f);
    }
}

static void activate(ck_type type, ck_activation activation, const void *x, void *y, int64_t lo, int64_t hi) {
    for (int64_t i = lo; i < hi; i += CK_LANES) {
        int64_t n = hi - i;
        store_some(type, y, i, n, vactivate(activation, load_some(type, x, i, n), type == CK_BF16));
    }
}

static void add_gated(
    ck_type type, void *x, const void *y, const float *gate, int64_t channels, int64_t lo, int64_t hi) {
    for (int64_t row = lo; row < hi; row++) {
        for (int64_t c = 0; c < channels; c += CK_LANES) {
            int64_t i = row * channels + c, n = channels - c;
            vf v = load_some(type, y, i, n);
            if (gate) v = v * load_some(CK_F32, gate, c, n);
            store_some(type, x, i, n, load_some(type, x, i, n) + v);
        }
    }
}

static void finish_product(
    ck_type type, ck_activation activation, const float *x, int64_t x_stride, const float *bias, const void *added,
    void *y, int64_t y_stride, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += CK_LANES) {
            int64_t n = columns - c, i = r * y_stride + c;
            vf v = load_some(CK_F32, x, r * x_stride + c, n);
            if (bias) v += load_some(CK_F32, bias, c, n);
            if (added) v += load_some(type, added, i, n);
            store_some(type, y, i, n, vactivate(activation, v, type == CK_BF16));
        }
}

static void finish_gated(
    ck_type type, const float *x, int64_t x_stride, const float *bias, const float *gate, void *y, int64_t y_stride,
    int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c += CK_LANES) {
            int64_t n = columns - c, i = r * y_stride + c;
            vf v = load_some(CK_F32, x, r * x_stride + c, n);
            if (bias) v += load_some(CK_F32, bias, c, n);
            if (gate) v = v * load_some(CK_F32, gate, c, n);
            store_some(type, y, i, n, load_some(type, y, i, n) + v);
        }
}
