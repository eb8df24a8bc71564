#include "cw_arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct cw_arena {
    ProtobufCAllocator allocator;
    size_t capacity;
    size_t used;
    uint8_t *bytes;
};

static void *take(void *opaque, size_t size) { return cw_arena_allocate(opaque, size); }
static void give_back(void *opaque, void *pointer) {
    (void)opaque;
    (void)pointer;
}

cw_arena *cw_arena_create(size_t capacity) {
    cw_arena *arena = malloc(sizeof *arena);
    if (arena == NULL) return NULL;
    arena->bytes = aligned_alloc(16, (capacity + 15) / 16 * 16);
    if (arena->bytes == NULL) {
        free(arena);
        return NULL;
    }
    arena->allocator = (ProtobufCAllocator){.alloc = take, .free = give_back, .allocator_data = arena};
    arena->capacity = capacity;
    arena->used = 0;
    return arena;
}

void cw_arena_destroy(cw_arena *arena) {
    if (arena == NULL) return;
    free(arena->bytes);
    free(arena);
}

void cw_arena_reset(cw_arena *arena) { arena->used = 0; }

void *cw_arena_allocate(cw_arena *arena, size_t size) {
    const size_t left = arena->capacity - arena->used;
    if (size > left) return NULL;
    const size_t rounded = (size + 15) / 16 * 16;
    uint8_t *found = arena->bytes + arena->used;
    arena->used += rounded > left ? left : rounded;
    memset(found, 0, size);
    return found;
}

size_t cw_arena_used(const cw_arena *arena) { return arena->used; }

ProtobufCAllocator *cw_arena_allocator(cw_arena *arena) { return &arena->allocator; }
