#ifndef CS_PAGES_H
#define CS_PAGES_H
#include <stdint.h>

/// The unit of these functions, 2 MiB: what the processor maps with one entry.
enum { CS_PAGE_BYTES = 2 << 20 };

/// Zeroed memory of `bytes` (a multiple of CS_PAGE_BYTES) at such a boundary, made of huge pages where there are any.
/// NULL when the system has no more; errno says why.
void *cs_pages_map(int64_t bytes);

/// Puts the pages of [from, from + bytes) in the place of those at `to`, which are dropped, without touching a byte;
/// `from` is no longer mapped. Both come from cs_pages_map and are multiples of CS_PAGE_BYTES.
/// 0, or errno: then `from` is as it was, and `to` may have become a hole that only cs_pages_unmap may touch.
int cs_pages_move(void *from, int64_t bytes, void *to);

/// Gives the pages back to the system.
void cs_pages_unmap(void *address, int64_t bytes);

#endif
