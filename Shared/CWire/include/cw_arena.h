#ifndef CW_ARENA_H
#define CW_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/// A block of memory handed out front to back and given back all at once.
///
/// protobuf-c allocates what the bytes on the wire ask for (64 KiB of empty sub-messages unpack to 4.7 MB); through
/// this allocator it gets at most `capacity` bytes and then NULL, which makes unpacking fail cleanly. Nothing is freed
/// one by one: `cw_arena_destroy` frees everything.
typedef struct cw_arena cw_arena;

/// NULL when the memory cannot be had.
cw_arena *cw_arena_create(size_t capacity);
void cw_arena_destroy(cw_arena *arena);
/// Forgets everything handed out; the memory is used again.
void cw_arena_reset(cw_arena *arena);
/// `size` bytes aligned to 16, zeroed; NULL when they do not fit.
void *cw_arena_allocate(cw_arena *arena, size_t size);
/// Bytes handed out since the last reset.
size_t cw_arena_used(const cw_arena *arena);
/// The allocator to give to protobuf-c; lives as long as the arena.
ProtobufCAllocator *cw_arena_allocator(cw_arena *arena);

#endif
