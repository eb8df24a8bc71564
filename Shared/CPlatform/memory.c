#define _GNU_SOURCE
#include "cs_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

enum { READER_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL };

typedef _Atomic uint64_t cs_word;

int cs_memory_create(const char *name, uint64_t bytes, void **address) {
    *address = NULL;
    if (bytes == 0 || bytes > INT64_MAX) {
        errno = EINVAL;
        return -1;
    }
    int descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    // Before Linux 6.3.
    if (descriptor < 0 && errno == EINVAL) descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (descriptor < 0) return -1;
    if (ftruncate(descriptor, (off_t)bytes) == 0) {
        // Mapped before it is sealed: only this mapping may write afterwards.
        void *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (mapping != MAP_FAILED) {
            if (fcntl(descriptor, F_ADD_SEALS, READER_SEALS) == 0) {
                *address = mapping;
                return descriptor;
            }
            const int saved = errno;
            munmap(mapping, bytes);
            errno = saved;
        }
    }
    const int saved = errno;
    close(descriptor);
    errno = saved;
    return -1;
}

int cs_memory_commit(int descriptor, uint64_t offset, uint64_t bytes) {
    int result;
    do result = fallocate(descriptor, 0, (off_t)offset, (off_t)bytes);
    while (result < 0 && errno == EINTR);
    return result < 0 ? errno : 0;
}

const void *cs_memory_attach(int descriptor, uint64_t limit, uint64_t *bytes) {
    const int seals = fcntl(descriptor, F_GET_SEALS);
    struct stat status;
    if (seals < 0 || fstat(descriptor, &status) < 0) return NULL;
    if ((seals & READER_SEALS) != READER_SEALS) {
        errno = EPERM;
        return NULL;
    }
    if (!S_ISREG(status.st_mode) || status.st_size <= 0) {
        errno = EINVAL;
        return NULL;
    }
    if ((uint64_t)status.st_size > limit) {
        errno = EFBIG;
        return NULL;
    }
    void *mapping = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapping == MAP_FAILED) return NULL;
    *bytes = (uint64_t)status.st_size;
    return mapping;
}

void cs_memory_detach(const void *address, uint64_t bytes) { munmap((void *)address, bytes); }

uint64_t cs_memory_word(const void *word) {
    return atomic_load_explicit((const cs_word *)word, memory_order_acquire);
}

void cs_memory_begin(void *word, uint64_t odd) {
    atomic_store_explicit((cs_word *)word, odd, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

void cs_memory_publish(void *word, uint64_t value) {
    atomic_store_explicit((cs_word *)word, value, memory_order_release);
}

bool cs_memory_read(void *to, const void *from, size_t count, const void *word, uint64_t expected) {
    // Another process may write to `from` meanwhile; what was copied counts only when the word says that none did.
    memcpy(to, from, count);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit((const cs_word *)word, memory_order_relaxed) == expected;
}
