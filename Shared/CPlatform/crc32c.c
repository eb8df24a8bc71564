#include "cs_crc32c.h"

#include <string.h>

// The reflected polynomial 0x82f63b78 applied to each nibble: small enough to stay in the cache beside the payload.
static const uint32_t nibble_table[16] = {
    0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u, 0x61c69362u, 0x7198540du,
    0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u, 0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u,
};

uint32_t cs_crc32c_table(uint32_t crc, const void *bytes, size_t count) {
    const uint8_t *cursor = bytes;
    crc = ~crc;
    for (size_t index = 0; index < count; index++) {
        crc ^= cursor[index];
        crc = (crc >> 4) ^ nibble_table[crc & 15];
        crc = (crc >> 4) ^ nibble_table[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *bytes, size_t count) {
    const uint8_t *cursor = bytes;
    uint64_t running = (uint32_t)~crc;
    while (count >= 8) {
        uint64_t word;
        memcpy(&word, cursor, sizeof word);
        running = _mm_crc32_u64(running, word);
        cursor += 8;
        count -= 8;
    }
    uint32_t tail = (uint32_t)running;
    while (count-- > 0) tail = _mm_crc32_u8(tail, *cursor++);
    return ~tail;
}

uint32_t cs_crc32c(uint32_t crc, const void *bytes, size_t count) {
    if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42(crc, bytes, count);
    return cs_crc32c_table(crc, bytes, count);
}
#else
uint32_t cs_crc32c(uint32_t crc, const void *bytes, size_t count) { return cs_crc32c_table(crc, bytes, count); }
#endif
