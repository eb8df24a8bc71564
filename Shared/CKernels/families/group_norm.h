// GroupNorm on channels-last pixels: sums, the affine step with SiLU, and the decoder's spatial norm.

/// Rows summed in registers before the sums in memory are touched.
enum { CK_SUM_ROWS = 32 };

static void channel_sums(
    ck_type type, const void *x, int64_t channels, int64_t lo, int64_t hi, double *sum, double *squares) {
    for (int64_t start = lo; start < hi; start += CK_SUM_ROWS) {
        int64_t end = hi - start < CK_SUM_ROWS ? hi : start + CK_SUM_ROWS;
        int64_t c = 0;
        for (; c + CK_LANES <= channels; c += CK_LANES) {
            vd s = {}, q = {}, old;
            for (int64_t row = start; row < end; row++) {
                vd wide = __builtin_convertvector(load_as(type, x, row * channels + c), vd);
                s += wide;
                q += wide * wide;
            }
            __builtin_memcpy(&old, sum + c, sizeof old);
            old += s;
            __builtin_memcpy(sum + c, &old, sizeof old);
            __builtin_memcpy(&old, squares + c, sizeof old);
            old += q;
            __builtin_memcpy(squares + c, &old, sizeof old);
        }
        for (; c < channels; c++) {
            double s = 0, q = 0;
            for (int64_t row = start; row < end; row++) {
                double v = load_tail(type, x, row * channels + c, 1)[0];
                s += v;
                q += v * v;
            }
            sum[c] += s;
            squares[c] += q;
        }
    }
}

static void channel_affine(
    ck_type type, const void *x, void *y, int64_t channels, const float *factor, const float *offset, bool silu,
    int64_t lo, int64_t hi) {
    for (int64_t row = lo; row < hi; row++) {
        for (int64_t c = 0; c < channels; c += CK_LANES) {
            int64_t i = row * channels + c, n = channels - c;
            vf v = load_some(type, x, i, n) * load_some(CK_F32, factor, c, n) + load_some(CK_F32, offset, c, n);
            store_some(type, y, i, n, silu ? vsilu(v, type == CK_BF16) : v);
        }
    }
}

static void spatial_affine(
    ck_type type, const void *x, void *y, int64_t width, int64_t channels, const float *factor, const float *offset,
    ck_type latent_type, const void *scale, const void *shift, int64_t latent_width, bool silu) {
    for (int64_t pixel = 0; pixel < width; pixel++) {
        int64_t latent = pixel * latent_width / width * channels;
        for (int64_t c = 0; c < channels; c += CK_LANES) {
            int64_t i = pixel * channels + c, n = channels - c;
            vf v = load_some(type, x, i, n) * load_some(CK_F32, factor, c, n) + load_some(CK_F32, offset, c, n);
            v = v * load_some(latent_type, scale, latent + c, n) + load_some(latent_type, shift, latent + c, n);
            store_some(type, y, i, n, silu ? vsilu(v, type == CK_BF16) : v);
        }
    }
}
