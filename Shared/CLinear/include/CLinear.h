// Matrix products and convolutions on one thread: a facade over OpenBLAS (float32 products) and oneDNN (bfloat16
// products, convolutions). Both libraries are kept to the calling thread; the caller cuts the work and owns the memory.
#ifndef CLINEAR_H
#define CLINEAR_H

#include <stdbool.h>
#include <stdint.h>

/// Makes OpenBLAS, and oneDNN in the calling thread, run on the calling thread alone. Every thread that calls a plan
/// or makes one calls this once before (it is cheap to repeat).
void cln_use_one_thread(void);

/// c[m, n] = a[m, k] · b[n, k]ᵀ, float32, row-major with row strides in elements. Overwrites c. m, n, k ≥ 1.
void cln_multiply_f32(
    int64_t m, int64_t n, int64_t k, const float *_Nonnull a, int64_t a_stride, const float *_Nonnull b,
    int64_t b_stride, float *_Nonnull c, int64_t c_stride);

/// Name of the processor kind that OpenBLAS chose, for logs. Static memory.
const char *_Nonnull cln_blas_name(void);

/// oneDNN's number for the instruction set that it uses here (dnnl_cpu_isa_t), and its version as 10000·major +
/// 100·minor + patch: together they identify its arithmetic.
int32_t cln_plan_instruction_set(void);
int32_t cln_plan_library_version(void);

/// oneDNN's CPU engine. Thread-safe after creation.
typedef struct cln_engine cln_engine;
/// NULL when oneDNN refuses. The owner frees it with `cln_engine_free` after all its plans.
cln_engine *_Nullable cln_engine_new(void);
void cln_engine_free(cln_engine *_Nonnull engine);

/// A compiled operation of fixed shape. Immutable: several threads may run one plan at once, each with its own scratch.
typedef struct cln_plan cln_plan;

/// c[rows, outputs] (f32, dense) = a[rows, inputs] (bf16, dense) · wᵀ, w packed from `[outputs, inputs]`.
/// `like`: a plan whose packed weights this one must accept, or NULL to let oneDNN choose their form.
/// NULL when oneDNN has no such operation (on this processor, or for these packed weights).
cln_plan *_Nullable cln_product_plan(
    cln_engine *_Nonnull engine, int64_t rows, int64_t inputs, int64_t outputs, const cln_plan *_Nullable like);

/// Shape of a convolution of stride 1 without padding, channels last: x `[frames + kt − 1, height + kh − 1,
/// width + kw − 1, inputs]`, y `[frames, height, width, outputs]`.
typedef struct {
    int64_t frames, height, width, inputs, outputs, kt, kh, kw;
    bool bf16;      ///< x, w and y are bfloat16 instead of float32; sums are float32 in both cases
    bool bias;      ///< a float32 bias `[outputs]` is added
    bool adds;      ///< the result is added to what y holds
} cln_convolution;
cln_plan *_Nullable cln_convolution_plan(
    cln_engine *_Nonnull engine, const cln_convolution *_Nonnull shape, const cln_plan *_Nullable like);

void cln_plan_free(cln_plan *_Nonnull plan);
/// Name of the implementation, for logs and tests. Lives as long as the plan.
const char *_Nonnull cln_plan_name(const cln_plan *_Nonnull plan);
/// Whether this is one of oneDNN's optimised implementations and not its reference loop.
bool cln_plan_is_fast(const cln_plan *_Nonnull plan);
/// Whether two plans take the same packed weights.
bool cln_plan_same_weights(const cln_plan *_Nonnull a, const cln_plan *_Nonnull b);
/// Bytes of the packed weights.
int64_t cln_plan_weight_bytes(const cln_plan *_Nonnull plan);
/// Bytes of scratch that one run needs; scratch is aligned to 64 bytes.
int64_t cln_plan_scratch_bytes(const cln_plan *_Nonnull plan);

/// Packs dense weights in checkpoint order (`[outputs, inputs]` or `[outputs, inputs, kt, kh, kw]`), bf16 when `bf16`
/// and else f32, into `packed` (64-byte aligned, cln_plan_weight_bytes). False when oneDNN fails.
bool cln_plan_pack(
    const cln_plan *_Nonnull plan, const void *_Nonnull weights, bool bf16, void *_Nonnull packed);
/// Runs the plan. `bias` is read by convolutions with a bias only. False when oneDNN fails.
bool cln_plan_run(
    const cln_plan *_Nonnull plan, const void *_Nonnull x, const void *_Nonnull packed, const float *_Nullable bias,
    void *_Nonnull y, void *_Nullable scratch);

#endif
