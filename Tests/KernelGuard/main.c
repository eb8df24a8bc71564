// Runs every kernel once on a small fixed shape, for an instruction counter to watch (Tests/kernel-guard.sh).
//
//   zoetrope-kernel-guard list             the names, in the order in which `all` runs them
//   zoetrope-kernel-guard all|NAME…        runs them, each in one call of `guarded`; a name is CASE/INSTRUCTION-SET
#include "CKernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS = 48, CHANNELS = 96, COUNT = ROWS * CHANNELS, OUTPUTS = 96, HEAD = 64, HEADS = 2, KEYS = 400, QUERIES = 48,
    VALUES = KEYS * HEADS * HEAD, BUFFER_BYTES = 1 << 19, BUFFERS = 6,
};

/// What cases read and write. `x`, `y` and `z` hold float32 or bfloat16 values in [-1, 1), by the case's type.
typedef struct {
    const ck_table *k;
    ck_type type;
    void *x, *y, *z, *packed, *words, *scratch;
    float vector[4][1024];
    double sums[2][1024];
    int32_t corrections[1024];
    ck_weights weights;
    ck_product product;
    const void *rows[ROWS];
    float *tile;
    ck_head_norm norm;
    ck_int8_scales scales;
    ck_attention_head head;
    ck_attention_queries queries;
} bench;

#define VECTOR(i) (b->vector[i])
#define TILE b->tile, OUTPUTS

/// One line a case: name, type of the activations (CK_I8: int8 weights of float32 activations), what runs.
#define CASES(CASE) \
    CASE(convert_f32_bf16, CK_F32, k->convert(CK_F32, b->x, CK_BF16, b->y, COUNT)) \
    CASE(convert_bf16_f32, CK_BF16, k->convert(CK_BF16, b->x, CK_F32, b->y, COUNT)) \
    CASE(convert_f16_f32, CK_F16, k->convert(CK_F16, b->x, CK_F32, b->y, COUNT)) \
    CASE(convert_f32_f16, CK_F32, k->convert(CK_F32, b->x, CK_F16, b->y, COUNT)) \
    CASE(first_non_finite_f32, CK_F32, (void)k->first_non_finite(CK_F32, b->x, COUNT)) \
    CASE(multiply_f32, CK_F32, k->multiply(CK_F32, b->x, b->z, b->y, 0, COUNT)) \
    CASE(multiply_bf16, CK_BF16, k->multiply(CK_BF16, b->x, b->z, b->y, 0, COUNT)) \
    CASE(silu_f32, CK_F32, k->activate(CK_F32, CK_SILU, b->x, b->y, 0, COUNT)) \
    CASE(silu_bf16, CK_BF16, k->activate(CK_BF16, CK_SILU, b->x, b->y, 0, COUNT)) \
    CASE(gelu_f32, CK_F32, k->activate(CK_F32, CK_GELU_TANH, b->x, b->y, 0, COUNT)) \
    CASE(add_gated_bf16, CK_BF16, k->add_gated(CK_BF16, b->y, b->x, VECTOR(0), CHANNELS, 0, ROWS)) \
    CASE(pack_weights_f32, CK_F32, k->pack_weights(CK_F32, &b->weights, 0, OUTPUTS, NULL, b->packed)) \
    CASE(pack_weights_bf16, CK_BF16, k->pack_weights(CK_BF16, &b->weights, 0, OUTPUTS, NULL, b->packed)) \
    CASE(pack_weights_i8, CK_I8, k->pack_weights(CK_I8, &b->weights, 0, OUTPUTS, VECTOR(0), b->packed)) \
    CASE(int8_columns, CK_I8, k->int8_columns(&b->weights, 0, OUTPUTS, VECTOR(3), b->corrections)) \
    CASE(row_words_bf16, CK_BF16, k->row_words(CK_BF16, b->x, CHANNELS, CHANNELS, 0, ROWS, b->y)) \
    CASE(int8_rows_f32, CK_F32, k->int8_rows(CK_F32, b->x, CHANNELS, 0, ROWS, b->y, VECTOR(3))) \
    CASE(int8_rows_bf16, CK_BF16, k->int8_rows(CK_BF16, b->x, CHANNELS, 0, ROWS, b->y, VECTOR(3))) \
    CASE(product_f32, CK_F32, k->product(&b->product)) \
    CASE(product_bf16, CK_BF16, k->product(&b->product)) \
    CASE(product_i8, CK_I8, k->product(&b->product)) \
    CASE(int8_values, CK_I8, k->int8_values(TILE, ROWS, OUTPUTS, &b->scales)) \
    CASE(finish_product_f32, CK_F32, \
        k->finish_product(CK_F32, CK_GELU_TANH, TILE, VECTOR(0), NULL, b->y, OUTPUTS, ROWS, OUTPUTS)) \
    CASE(finish_product_bf16, CK_BF16, \
        k->finish_product(CK_BF16, CK_NONE, TILE, VECTOR(0), b->x, b->y, OUTPUTS, ROWS, OUTPUTS)) \
    CASE(finish_gated_bf16, CK_BF16, \
        k->finish_gated(CK_BF16, TILE, VECTOR(0), VECTOR(1), b->y, OUTPUTS, ROWS, OUTPUTS)) \
    CASE(finish_heads_f32, CK_F32, \
        k->finish_heads(CK_F32, TILE, VECTOR(0), &b->norm, 0, b->y, OUTPUTS, ROWS, HEAD)) \
    CASE(finish_heads_bf16, CK_BF16, \
        k->finish_heads(CK_BF16, TILE, VECTOR(0), &b->norm, 0, b->y, OUTPUTS, ROWS, HEAD)) \
    CASE(layer_norm_f32, CK_F32, k->layer_norm( \
        CK_F32, b->x, b->y, CHANNELS, 1e-5f, VECTOR(0), VECTOR(1), VECTOR(2), VECTOR(3), 0, ROWS)) \
    CASE(layer_norm_bf16, CK_BF16, k->layer_norm( \
        CK_BF16, b->x, b->y, CHANNELS, 1e-5f, VECTOR(0), VECTOR(1), VECTOR(2), VECTOR(3), 0, ROWS)) \
    CASE(rms_norm_bf16, CK_BF16, k->rms_norm(CK_BF16, b->x, b->y, CHANNELS, 1e-6f, VECTOR(0), 0, ROWS)) \
    CASE(channel_sums_bf16, CK_BF16, k->channel_sums(CK_BF16, b->x, CHANNELS, 0, ROWS, b->sums[0], b->sums[1])) \
    CASE(channel_affine_bf16, CK_BF16, \
        k->channel_affine(CK_BF16, b->x, b->y, CHANNELS, VECTOR(0), VECTOR(1), true, 0, ROWS)) \
    CASE(spatial_affine_bf16, CK_BF16, k->spatial_affine( \
        CK_BF16, b->x, b->y, ROWS, CHANNELS, VECTOR(0), VECTOR(1), CK_BF16, b->z, b->x, 6, true)) \
    CASE(pack_keys_f32, CK_F32, k->pack_keys(&b->head, b->x, b->z, b->packed, b->words, 0)) \
    CASE(pack_keys_bf16, CK_BF16, k->pack_keys(&b->head, b->x, b->z, b->packed, b->words, 0)) \
    CASE(attention_f32, CK_F32, k->attention(&b->head, &b->queries, b->packed, b->words, b->scratch)) \
    CASE(attention_bf16, CK_BF16, k->attention(&b->head, &b->queries, b->packed, b->words, b->scratch)) \
    CASE(repeat_pixels, CK_BF16, ck_repeat_pixels(b->x, b->y, COUNT / 4, 8)) \
    CASE(permute, CK_BF16, \
        ck_permute(2, b->x, b->y, 2, (int64_t[]){CHANNELS, ROWS}, (int64_t[]){1, CHANNELS}, 0, CHANNELS))

#define ENUMERATOR(name, type, call) CASE_##name,
#define NAME(name, type, call) #name,
#define TYPE(name, type, call) type,
#define BRANCH(name, type, call) case CASE_##name: call; break;
enum { CASES(ENUMERATOR) CASE_COUNT };
static const char *const names[] = {CASES(NAME)};
static const ck_type types[] = {CASES(TYPE)};

/// The function whose instructions are counted.
__attribute__((noinline)) void guarded(const ck_table *k, bench *b, int number) {
    switch (number) { CASES(BRANCH) }
}

static void fill(const ck_table *k, ck_type type, void *values, unsigned seed) {
    static float source[VALUES];
    for (int i = 0; i < VALUES; i++) {
        seed = seed * 1664525u + 1013904223u;
        source[i] = (float)(int32_t)seed / 2147483648.0f;
    }
    k->convert(CK_F32, source, type == CK_I8 ? CK_F32 : type, values, VALUES);
}

static void prepare_product(bench *b) {
    const ck_table *k = b->k;
    const ck_type activation = b->type == CK_I8 ? CK_F32 : b->type;
    b->weights = (ck_weights){
        .from = CK_F32, .elements = b->z, .outputs = OUTPUTS, .segments = 1, .depth = CHANNELS,
        .output_stride = CHANNELS, .segment_stride = 0, .channel_stride = 1};
    fill(k, CK_F32, b->z, 2);
    k->int8_columns(&b->weights, 0, OUTPUTS, VECTOR(0), b->corrections);
    k->pack_weights(b->type, &b->weights, 0, OUTPUTS, b->type == CK_I8 ? VECTOR(0) : NULL, b->packed);
    if (b->type == CK_I8)
        k->int8_rows(activation, b->x, CHANNELS, 0, ROWS, b->words, VECTOR(1));
    else
        k->row_words(activation, b->x, CHANNELS, CHANNELS, 0, ROWS, b->words);
    for (int i = 0; i < ROWS; i++) b->rows[i] = (char *)b->words + i * k->product_words(b->type, CHANNELS) * 4;
    b->product = (ck_product){
        .type = b->type, .rows = ROWS, .columns = OUTPUTS, .outputs = OUTPUTS, .segments = 1, .depth = CHANNELS,
        .words = b->rows, .packed = b->packed, .result = b->tile, .result_stride = OUTPUTS};
    k->product(&b->product);
    b->scales = (ck_int8_scales){.row_scales = VECTOR(1), .column_scales = VECTOR(0), .corrections = b->corrections};
    b->norm = (ck_head_norm){
        .head_size = HEAD, .epsilon = 1e-6f, .weight = VECTOR(0), .bias = VECTOR(1), .cosines = (float *)b->scratch,
        .sines = (float *)b->scratch, .rotary_start = 8, .period = ROWS};
}

static void prepare_attention(bench *b) {
    const ck_table *k = b->k;
    b->head = (ck_attention_head){
        .type = b->type, .head_size = HEAD, .keys = KEYS, .row_stride = HEAD * HEADS, .scale = 0.125f};
    const int64_t packed = 2 * k->packed_block_bytes(b->type, HEAD);
    const int64_t scratch = k->attention_scratch_bytes(b->type, HEAD);
    if (packed > BUFFER_BYTES || scratch > BUFFER_BYTES) abort();
    b->queries = (ck_attention_queries){.queries = b->x, .result = b->y, .count = QUERIES};
    for (int block = 0; block * CK_KEY_BLOCK < KEYS; block++)
        k->pack_keys(&b->head, b->x, b->z, b->packed, b->words, block);
}

static void run(const ck_table *k, int number) {
    static _Alignas(64) char memory[BUFFERS][BUFFER_BYTES];
    static float tile[ROWS * OUTPUTS];
    static bench state;
    bench *b = &state;
    memset(memory, 0, sizeof memory);
    *b = (bench){
        .k = k, .type = types[number], .x = memory[0], .y = memory[1], .z = memory[2], .packed = memory[3],
        .words = memory[4], .scratch = memory[5], .tile = tile};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 1024; j++) b->vector[i][j] = 0.5f + (float)((i + 1) * j % 97) / 97;
    fill(k, b->type, b->x, 1);
    if (strncmp(names[number], "attention", 9) == 0 || strncmp(names[number], "pack_keys", 9) == 0) {
        fill(k, b->type, b->z, 3);
        prepare_attention(b);
    } else if (b->type != CK_F16) {
        prepare_product(b);
        if (strncmp(names[number], "pack_weights", 12) && strncmp(names[number], "int8_columns", 12))
            fill(k, b->type, b->z, 4);
    }
    guarded(k, b, number);
}

int main(int count, char **arguments) {
    const ck_isa sets[] = {CK_GENERIC, CK_AVX2};
    bool lists = count == 2 && strcmp(arguments[1], "list") == 0, found = false;
    for (int s = 0; s < 2; s++) {
        const ck_table *k = ck_select_isa(sets[s]);
        if (k->isa != sets[s]) continue;
        for (int number = 0; number < CASE_COUNT; number++) {
            char name[96];
            snprintf(name, sizeof name, "%s/%s", names[number], k->name);
            bool wanted = lists;
            for (int i = 1; i < count; i++) wanted |= !strcmp(arguments[i], "all") || !strcmp(arguments[i], name);
            if (!wanted) continue;
            found = true;
            puts(name);
            if (!lists) run(k, number);
        }
    }
    if (!found) fprintf(stderr, "usage: %s list | all | NAME…\n", arguments[0]);
    return found ? 0 : 2;
}
