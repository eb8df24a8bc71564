// Keys and values of heads of 64 channels in int8, in blocks of CK_KEY_BLOCK keys (SageAttention, Zhang et al. 2024).

/// Channels of a head of every CogVideoX: the kernels that are made for one size are made for this.
enum { CK_HEAD = 64, CK_INT8_WORDS = CK_HEAD / 4 };

static bool attends_in_int8(ck_type type, int64_t head_size) {
#ifdef CK_HAS_BF16
    return type == CK_BF16 && head_size == CK_HEAD;
#else
    (void)type, (void)head_size;
    return false;
#endif
}

#ifdef CK_HAS_BF16

/// CK_INT8_KEYS keys.
typedef struct {
    uint32_t words[CK_INT8_WORDS][CK_INT8_KEYS];  // four channels each
    int32_t corrections[CK_INT8_KEYS];            // −128 · the sum of a key: queries are unsigned, 128 too large
    float scale;
    float unused[15];
} int8_keys;

/// CK_KEY_BLOCK values.
typedef struct {
    uint32_t words[CK_KEY_BLOCK / 4][CK_HEAD];  // four keys each
    float scales[CK_HEAD];
    float inverses[CK_HEAD];
} int8_values_block;

_Static_assert(CK_INT8_KEYS == CK_PANEL, "a panel of keys has one scale");
_Static_assert(sizeof(int8_keys) * (CK_KEY_BLOCK / CK_INT8_KEYS) <= CK_KEY_BLOCK * CK_HEAD * 2, "fits a block");
_Static_assert(sizeof(int8_values_block) <= CK_KEY_BLOCK * CK_HEAD * 2, "fits a block");

static void pack_int8_keys(
    const ck_attention_head *head, const void *keys, int64_t key, int64_t count, int8_keys *panel) {
    float values[CK_INT8_KEYS][CK_HEAD] __attribute__((aligned(64)));
    uint32_t rows[CK_INT8_KEYS][CK_INT8_WORDS] __attribute__((aligned(64)));
    int64_t n = count < CK_INT8_KEYS ? count : CK_INT8_KEYS;
    vf highest = {};
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < CK_HEAD; c += CK_LANES) {
            vf v = load_as(head->type, keys, (key + i) * head->row_stride + c) - vload(head->key_means + c);
            vstore(values[i] + c, v);
            highest = vmax(highest, vmax(v, -v));
        }
    panel->scale = int8_scale(vmaximum(highest));
    float factor = 1.0f / panel->scale;
    __builtin_memset(rows, 0, sizeof rows);
    for (int64_t i = 0; i < CK_INT8_KEYS; i++) {
        vi sum = {};
        for (int64_t c = 0; i < n && c < CK_HEAD; c += CK_LANES) {
            __m512i q = _mm512_cvtps_epi32((__m512)(vload(values[i] + c) * factor));
            sum += (vi)q;
            _mm_storeu_si128((__m128i *)(rows[i] + c / 4), _mm512_cvtepi32_epi8(q));
        }
        panel->corrections[i] = -128 * _mm512_reduce_add_epi32((__m512i)sum);
    }
    for (int64_t i = 0; i < CK_INT8_KEYS; i += CK_LANES)
        turn_square(rows[i], CK_INT8_WORDS, panel->words[0] + i, CK_INT8_KEYS, CK_INT8_WORDS);
}

/// The first of the four keys of a panel whose values, and whose bytes of probabilities, share word `word`: in the order
/// in which four vectors are packed to one of bytes.
CK_INLINE int64_t int8_key(int64_t word) { return word % 4 * CK_LANES + word / 4 * 4; }

/// Values with a scale for each channel of the block.
static void pack_int8_values(
    const ck_attention_head *head, const void *values, int64_t first, int64_t count, int8_values_block *block) {
    for (int64_t c = 0; c < CK_HEAD; c += CK_LANES) {
        vf highest = {};
        for (int64_t key = 0; key < count; key++) {
            vf v = load_as(head->type, values, (first + key) * head->row_stride + c);
            highest = vmax(highest, vmax(v, -v));
        }
        vf scale = vselect(highest < 1e-10f, vset(1.0f), highest / 127.0f), factor = 1.0f / scale;
        vstore(block->scales + c, scale);
        vstore(block->inverses + c, factor);
        for (int64_t at = 0; at < round_up(count, CK_INT8_KEYS) / 4; at++) {
            int64_t key = at / CK_INT8_WORDS * CK_INT8_KEYS + int8_key(at % CK_INT8_WORDS);
            vu word = {};
            for (int64_t i = 0; i < 4 && key + i < count; i++) {
                vf v = load_as(head->type, values, (first + key + i) * head->row_stride + c) * factor;
                word |= ((vu)_mm512_cvtps_epi32((__m512)v) & 255) << (uint32_t)(8 * i);
            }
            __builtin_memcpy(block->words[at] + c, &word, sizeof word);
        }
    }
}

static void pack_int8_block(
    const ck_attention_head *head, const void *keys, const void *values, int64_t first, int64_t count,
    int8_keys *panels, int8_values_block *block) {
    for (int64_t key = 0; key < count; key += CK_INT8_KEYS)
        pack_int8_keys(head, keys, first + key, count - key, panels + key / CK_INT8_KEYS);
    pack_int8_values(head, values, first, count, block);
}

#endif
