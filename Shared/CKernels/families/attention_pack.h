// Keys and values of attention, packed in blocks of CK_KEY_BLOCK keys as the register tile of tile.h reads them.

_Static_assert(CK_KEY_BLOCK % CK_PANEL == 0 && CK_KEY_BLOCK % 2 == 0, "key blocks hold whole panels");
_Static_assert(CK_QUERY_BLOCK % CK_TILE_ROWS == 0, "query blocks hold whole tiles");

CK_INLINE bool in_pairs(ck_type type) { return words_of(type) == CK_PAIRS; }
/// Words of one query or key.
CK_INLINE int64_t depth_words(ck_type type, int64_t head_size) { return product_words(type, head_size); }

static int64_t packed_block_bytes(ck_type type, int64_t head_size) {
    int64_t keys = CK_KEY_BLOCK * depth_words(type, head_size);
    int64_t values = CK_KEY_BLOCK / (in_pairs(type) ? 2 : 1) * round_up(head_size, CK_LANES);
    return round_up((keys > values ? keys : values) * 4, 64);
}

/// The head's channels of one row as words: floats, or pairs of bfloat16 with a zero after an odd end.
CK_INLINE void head_words(const ck_attention_head *head, const void *rows, int64_t row, uint32_t *words) {
    int64_t i = row * head->row_stride;
    if (in_pairs(head->type)) {
        words[(head->head_size - 1) / 2] = 0;
        __builtin_memcpy(words, (const uint16_t *)rows + i, (size_t)head->head_size * 2);
    } else if (head->type == CK_F32) {
        __builtin_memcpy(words, (const float *)rows + i, (size_t)head->head_size * 4);
    } else {
        for (int64_t c = 0; c < head->head_size; c += CK_LANES)
            store_some(CK_F32, words, c, head->head_size - c, load_some(CK_BF16, rows, i + c, head->head_size - c));
    }
}

/// Up to CK_LANES keys from `key` on, turned so that the words of one depth lie side by side.
CK_INLINE void pack_some_keys(
    const ck_attention_head *head, const void *keys, int64_t first, int64_t key, int64_t count, int64_t depth,
    uint32_t *panels) {
    // Whole squares are turned; what lies beyond the depth in a row is never kept.
    uint32_t rows[CK_LANES][CK_HEAD_LIMIT] __attribute__((aligned(64)));
    int64_t n = count - key < CK_LANES ? count - key : CK_LANES, squares = round_up(depth, CK_LANES);
    for (int64_t i = 0; i < CK_LANES; i++) {
        if (depth < squares || i >= n) __builtin_memset(rows[i], 0, (size_t)squares * 4);
        if (i < n) head_words(head, keys, first + key + i, rows[i]);
    }
    uint32_t *panel = panels + key / CK_PANEL * CK_PANEL * depth + key % CK_PANEL;
    for (int64_t d = 0; d < depth; d += CK_LANES)
        turn_square(
            rows[0] + d, CK_HEAD_LIMIT, panel + d * CK_PANEL, CK_PANEL, depth - d < CK_LANES ? depth - d : CK_LANES);
}

static void pack_keys(
    const ck_attention_head *head, const void *keys, const void *values, void *packed_keys, void *packed_values,
    int64_t block) {
    int64_t depth = depth_words(head->type, head->head_size), size = head->head_size;
    int64_t block_bytes = packed_block_bytes(head->type, size), first = block * CK_KEY_BLOCK;
    int64_t count = head->keys - first < CK_KEY_BLOCK ? head->keys - first : CK_KEY_BLOCK;
    uint32_t *k_out = (uint32_t *)((char *)packed_keys + block * block_bytes);
    char *v_out = (char *)packed_values + block * block_bytes;
#ifdef CK_HAS_BF16
    if (head->key_means) {
        pack_int8_block(head, keys, values, first, count, (int8_keys *)k_out, (int8_values_block *)v_out);
        return;
    }
#endif
    __builtin_memset(v_out, 0, (size_t)block_bytes);
    if (count < CK_KEY_BLOCK) __builtin_memset(k_out, 0, (size_t)block_bytes);
    bool pairs = in_pairs(head->type);
    int64_t panel_words = CK_KEY_BLOCK / (pairs ? 2 : 1) * CK_PANEL, columns = round_up(size, CK_LANES);
    for (int64_t key = 0; key < count; key += CK_LANES) pack_some_keys(head, keys, first, key, count, depth, k_out);
    for (int64_t key = 0; key < count; key += pairs ? 2 : 1) {
        for (int64_t j = 0; j < size; j += CK_PANEL) {
            int64_t width = columns - j < CK_PANEL ? columns - j : CK_PANEL;
            uint32_t *out = (uint32_t *)v_out + j / CK_PANEL * panel_words + key / (pairs ? 2 : 1) * width;
            for (int64_t c = 0; c < width; c += CK_LANES) {
                int64_t n = size - j - c, at = (first + key) * head->row_stride + j + c;
                vu word = (vu)load_some(head->type, values, at, n);
                if (pairs) {
                    word >>= 16;
                    if (key + 1 < count) word |= (vu)load_some(head->type, values, at + head->row_stride, n);
                }
                __builtin_memcpy(out + c, &word, sizeof word);
            }
        }
    }
}
