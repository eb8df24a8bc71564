// OpenBLAS behind one function.
#define _GNU_SOURCE
#include "include/CLinear.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>

static pthread_once_t blas_limited = PTHREAD_ONCE_INIT;
static void limit_blas(void) { openblas_set_num_threads(1); }

void cln_use_one_thread(void) {
    // oneDNN takes its thread count from the OpenMP runtime it was built with, if any; that setting is per thread.
    static _Thread_local bool prepared = false;
    if (prepared) return;
    prepared = true;
    pthread_once(&blas_limited, limit_blas);
    void (*set_threads)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (set_threads) set_threads(1);
}

void cln_multiply_f32(
    int64_t m, int64_t n, int64_t k, const float *a, int64_t a_stride, const float *b, int64_t b_stride, float *c,
    int64_t c_stride) {
    if (m == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)n, (int)k, 1, b, (int)b_stride, a, 1, 0, c, 1);
    else
        cblas_sgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1, a, (int)a_stride, b, (int)b_stride, 0,
            c, (int)c_stride);
}

const char *cln_blas_name(void) { return openblas_get_corename(); }
