// oneDNN primitives as plans: created for one thread, executed with scratch of the caller.
#include "include/CLinear.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

struct cln_engine {
    dnnl_engine_t engine;
};

struct cln_plan {
    dnnl_engine_t engine;
    dnnl_primitive_desc_t descriptor;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t x, weights, dense_weights, bias, y, scratch;
    bool has_bias;
    const char *name;
};

int32_t cln_plan_instruction_set(void) { return (int32_t)dnnl_get_effective_cpu_isa(); }
int32_t cln_plan_library_version(void) {
    const dnnl_version_t *version = dnnl_version();
    return version->major * 10000 + version->minor * 100 + version->patch;
}

cln_engine *cln_engine_new(void) {
    cln_engine *result = calloc(1, sizeof *result);
    if (!result) return NULL;
    cln_use_one_thread();
    if (dnnl_engine_create(&result->engine, dnnl_cpu, 0) == dnnl_success) return result;
    free(result);
    return NULL;
}

void cln_engine_free(cln_engine *engine) {
    dnnl_engine_destroy(engine->engine);
    free(engine);
}

void cln_plan_free(cln_plan *plan) {
    if (plan->primitive) dnnl_primitive_destroy(plan->primitive);
    if (plan->descriptor) dnnl_primitive_desc_destroy(plan->descriptor);
    free(plan);
}

static dnnl_primitive_attr_t attributes(bool adds) {
    dnnl_primitive_attr_t attr = NULL;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success) return NULL;
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (adds) {
        dnnl_post_ops_t after = NULL;
        if (dnnl_post_ops_create(&after) != dnnl_success) return attr;
        dnnl_post_ops_append_sum(after, 1.0f);
        dnnl_primitive_attr_set_post_ops(attr, after);
        dnnl_post_ops_destroy(after);
    }
    return attr;
}

/// Compiles `operation` into `plan`, or frees the plan and returns NULL.
static cln_plan *compiled(cln_plan *plan, const_dnnl_op_desc_t operation, bool adds) {
    dnnl_primitive_attr_t attr = attributes(adds);
    bool ok = attr
        && dnnl_primitive_desc_create(&plan->descriptor, operation, attr, plan->engine, NULL) == dnnl_success
        && dnnl_primitive_create(&plan->primitive, plan->descriptor) == dnnl_success;
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (!ok) {
        cln_plan_free(plan);
        return NULL;
    }
    plan->weights = *dnnl_primitive_desc_query_md(plan->descriptor, dnnl_query_weights_md, 0);
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(plan->descriptor, dnnl_query_scratchpad_md, 0);
    if (scratch) plan->scratch = *scratch;
    if (dnnl_primitive_desc_query(plan->descriptor, dnnl_query_impl_info_str, 0, &plan->name) != dnnl_success)
        plan->name = "unnamed";
    return plan;
}

cln_plan *cln_product_plan(
    cln_engine *engine, int64_t rows, int64_t inputs, int64_t outputs, const cln_plan *like) {
    cln_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return NULL;
    cln_use_one_thread();
    plan->engine = engine->engine;
    dnnl_dims_t x = {rows, inputs}, w = {inputs, outputs}, y = {rows, outputs};
    dnnl_memory_desc_init_by_tag(&plan->x, 2, x, dnnl_bf16, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&plan->weights, 2, w, dnnl_bf16, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&plan->dense_weights, 2, w, dnnl_bf16, dnnl_ba);
    dnnl_memory_desc_init_by_tag(&plan->y, 2, y, dnnl_f32, dnnl_ab);
    if (like) plan->weights = like->weights;
    dnnl_matmul_desc_t operation;
    if (dnnl_matmul_desc_init(&operation, &plan->x, &plan->weights, NULL, &plan->y) != dnnl_success) {
        cln_plan_free(plan);
        return NULL;
    }
    return compiled(plan, &operation, false);
}

cln_plan *cln_convolution_plan(cln_engine *engine, const cln_convolution *shape, const cln_plan *like) {
    cln_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return NULL;
    cln_use_one_thread();
    plan->engine = engine->engine;
    plan->has_bias = shape->bias;
    const cln_convolution s = *shape;
    dnnl_data_type_t type = s.bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_dims_t x = {1, s.inputs, s.frames + s.kt - 1, s.height + s.kh - 1, s.width + s.kw - 1};
    dnnl_dims_t w = {s.outputs, s.inputs, s.kt, s.kh, s.kw}, bias = {s.outputs};
    dnnl_dims_t y = {1, s.outputs, s.frames, s.height, s.width}, ones = {1, 1, 1}, zeros = {0, 0, 0};
    dnnl_memory_desc_init_by_tag(&plan->x, 5, x, type, dnnl_ndhwc);
    dnnl_memory_desc_init_by_tag(&plan->weights, 5, w, type, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&plan->dense_weights, 5, w, type, dnnl_oidhw);
    dnnl_memory_desc_init_by_tag(&plan->bias, 1, bias, dnnl_f32, dnnl_a);
    dnnl_memory_desc_init_by_tag(&plan->y, 5, y, type, dnnl_ndhwc);
    if (like) plan->weights = like->weights;
    dnnl_convolution_desc_t operation;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &operation, dnnl_forward_inference, dnnl_convolution_direct, &plan->x, &plan->weights,
        s.bias ? &plan->bias : NULL, &plan->y, ones, zeros, zeros);
    if (status != dnnl_success) {
        cln_plan_free(plan);
        return NULL;
    }
    return compiled(plan, &operation, s.adds);
}

const char *cln_plan_name(const cln_plan *plan) { return plan->name; }
bool cln_plan_is_fast(const cln_plan *plan) { return strncmp(plan->name, "ref", 3) != 0; }
bool cln_plan_same_weights(const cln_plan *a, const cln_plan *b) {
    return dnnl_memory_desc_equal(&a->weights, &b->weights) != 0;
}
int64_t cln_plan_weight_bytes(const cln_plan *plan) { return (int64_t)dnnl_memory_desc_get_size(&plan->weights); }
int64_t cln_plan_scratch_bytes(const cln_plan *plan) {
    return plan->scratch.ndims ? (int64_t)dnnl_memory_desc_get_size(&plan->scratch) : 0;
}

bool cln_plan_pack(const cln_plan *plan, const void *weights, bool bf16, void *packed) {
    cln_use_one_thread();
    dnnl_memory_desc_t dense = plan->dense_weights;
    dense.data_type = bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_stream_t stream = NULL;
    bool ok = dnnl_reorder_primitive_desc_create(
                  &descriptor, &dense, plan->engine, &plan->weights, plan->engine, NULL) == dnnl_success
        && dnnl_primitive_create(&reorder, descriptor) == dnnl_success
        && dnnl_memory_create(&from, &dense, plan->engine, (void *)(uintptr_t)weights) == dnnl_success
        && dnnl_memory_create(&to, &plan->weights, plan->engine, packed) == dnnl_success
        && dnnl_stream_create(&stream, plan->engine, dnnl_stream_default_flags) == dnnl_success;
    if (ok) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
        ok = dnnl_primitive_execute(reorder, stream, 2, arguments) == dnnl_success
            && dnnl_stream_wait(stream) == dnnl_success;
    }
    if (stream) dnnl_stream_destroy(stream);
    if (to) dnnl_memory_destroy(to);
    if (from) dnnl_memory_destroy(from);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (descriptor) dnnl_primitive_desc_destroy(descriptor);
    return ok;
}

bool cln_plan_run(
    const cln_plan *plan, const void *x, const void *packed, const float *bias, void *y, void *scratch) {
    dnnl_exec_arg_t arguments[5];
    struct {
        int argument;
        const dnnl_memory_desc_t *descriptor;
        const void *bytes;
        bool wanted;
    } parts[] = {
        {DNNL_ARG_SRC, &plan->x, x, true},
        {DNNL_ARG_WEIGHTS, &plan->weights, packed, true},
        {DNNL_ARG_DST, &plan->y, y, true},
        {DNNL_ARG_BIAS, &plan->bias, bias, plan->has_bias},
        {DNNL_ARG_SCRATCHPAD, &plan->scratch, scratch, plan->scratch.ndims > 0},
    };
    int count = 0;
    bool ok = true;
    for (int i = 0; ok && i < 5; i++) {
        if (!parts[i].wanted) continue;
        dnnl_memory_t memory = NULL;
        ok = dnnl_memory_create(&memory, parts[i].descriptor, plan->engine, (void *)(uintptr_t)parts[i].bytes)
            == dnnl_success;
        if (ok) arguments[count++] = (dnnl_exec_arg_t){parts[i].argument, memory};
    }
    dnnl_stream_t stream = NULL;
    ok = ok && dnnl_stream_create(&stream, plan->engine, dnnl_stream_default_flags) == dnnl_success
        && dnnl_primitive_execute(plan->primitive, stream, count, arguments) == dnnl_success
        && dnnl_stream_wait(stream) == dnnl_success;
    if (stream) dnnl_stream_destroy(stream);
    for (int i = 0; i < count; i++) dnnl_memory_destroy(arguments[i].memory);
    return ok;
}
