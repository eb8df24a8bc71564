#define _GNU_SOURCE
#include "include/cs_pages.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

void *cs_pages_map(int64_t bytes) {
    // A boundary is certain to lie in one page more; what is around it goes back.
    char *base = mmap(NULL, (size_t)bytes + CS_PAGE_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    size_t before = (size_t)(-(uintptr_t)base & (CS_PAGE_BYTES - 1)), after = CS_PAGE_BYTES - before;
    if (before) munmap(base, before);
    if (after) munmap(base + before + bytes, after);
    madvise(base + before, (size_t)bytes, MADV_HUGEPAGE);
    return base + before;
}

int cs_pages_move(void *from, int64_t bytes, void *to) {
    void *moved = mremap(from, (size_t)bytes, (size_t)bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    return moved == MAP_FAILED ? errno : 0;
}

void cs_pages_unmap(void *address, int64_t bytes) { munmap(address, (size_t)bytes); }
