// Softmax attention in the blocked form of ck_attention.h: every tile of queries over every block of keys.

/// The queries as words; negated when the scale is negative, so that the factor is positive.
CK_INLINE void load_queries(const ck_attention_head *head, const ck_attention_queries *queries, attention_scratch s) {
    int64_t depth = depth_words(head->type, head->head_size), rows = round_up(queries->count, CK_TILE_ROWS);
#ifdef CK_HAS_BF16
    if (head->key_means) {
        load_int8_queries(head, queries, s);
        return;
    }
#endif
    uint32_t signs = head->scale >= 0 ? 0 : in_pairs(head->type) ? 0x80008000u : 0x80000000u;
    for (int64_t r = 0; r < rows; r++) {
        uint32_t *words = s.queries + r * depth;
        // Rows that only fill the last tile repeat the last one.
        head_words(head, queries->queries, r < queries->count ? r : queries->count - 1, words);
        for (int64_t k = 0; signs && k < depth; k++) words[k] ^= signs;
    }
}

static void attention(
    const ck_attention_head *head, const ck_attention_queries *queries, const void *packed_keys,
    const void *packed_values, void *scratch) {
    int64_t columns = round_up(head->head_size, CK_LANES);
    int64_t block_bytes = packed_block_bytes(head->type, head->head_size);
    int64_t rows = round_up(queries->count, CK_TILE_ROWS);
    attention_scratch s = lay_out(head->type, head->head_size, scratch);
    load_queries(head, queries, s);
    __builtin_memset(s.sums, 0, (size_t)(rows * columns * 4));
    __builtin_memset(s.weights, 0, (size_t)(rows * CK_LANES * 4));
    for (int64_t r = 0; r < rows; r++) s.references[r] = CK_HIDDEN;
    attention_pass pass = {.queries = queries, .columns = columns};
    pass.factor = __builtin_fabsf(head->scale) * 1.44269504f;
    for (pass.first = 0; pass.first < head->keys; pass.first += CK_KEY_BLOCK) {
        int64_t left = head->keys - pass.first;
        pass.count = left < CK_KEY_BLOCK ? left : CK_KEY_BLOCK;
        const char *k = (const char *)packed_keys + pass.first / CK_KEY_BLOCK * block_bytes;
        const char *v = (const char *)packed_values + pass.first / CK_KEY_BLOCK * block_bytes;
        for (pass.row = 0; pass.row < rows; pass.row += CK_TILE_ROWS) {
#ifdef CK_HAS_BF16
            if (head->key_means) {
                attend_int8(s, &pass, (const int8_keys *)k, (const int8_values_block *)v);
                continue;
            }
            if (in_pairs(head->type)) {
                if (head->head_size == CK_HEAD)
                    attend_overlapped(head, s, &pass, (const uint32_t *)k, (const uint32_t *)v);
                else
                    attend_block(CK_PAIRS, head, s, &pass, (const uint32_t *)k, (const uint32_t *)v);
                continue;
            }
#endif
            attend_block(CK_FLOATS, head, s, &pass, (const uint32_t *)k, (const uint32_t *)v);
        }
    }
    for (int64_t r = 0; r < queries->count; r++) {
        float inverse = 1.0f / vsum(vload(s.weights + r * CK_LANES));
        for (int64_t c = 0; c < head->head_size; c += CK_LANES)
            store_some(
                head->type, queries->result, r * head->row_stride + c, head->head_size - c,
                vload(s.sums + r * columns + c) * inverse);
    }
}
