#define _GNU_SOURCE
#include "include/cs_affinity.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

/// More than any machine's CPUs: the kernel wants a mask at least as long as its own.
enum { MASK_CPUS = 16384, MASK_BYTES = MASK_CPUS / 8 };

typedef union {
    cpu_set_t set;
    unsigned char bytes[MASK_BYTES];
} mask;

int32_t cs_affinity_get(int32_t *cpus, int32_t capacity) {
    mask own = {.bytes = {0}};
    if (sched_getaffinity(0, sizeof own, &own.set) != 0) return -1;
    int32_t count = 0;
    for (int32_t cpu = 0; cpu < MASK_CPUS; cpu++) {
        if (!CPU_ISSET_S((size_t)cpu, sizeof own, &own.set)) continue;
        if (count < capacity) cpus[count] = cpu;
        count++;
    }
    return count;
}

/// Binds the threads that /proc lists and reports whether one of them was not bound yet.
static int bind_listed(const mask *wanted, bool *found_new) {
    DIR *threads = opendir("/proc/self/task");
    if (!threads) return -1;
    int result = 0;
    struct dirent *entry;
    while (result == 0 && (entry = readdir(threads))) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        mask present = {.bytes = {0}};
        if (thread <= 0 || sched_getaffinity(thread, sizeof present, &present.set) != 0) continue;
        if (CPU_EQUAL_S(sizeof present, &present.set, &wanted->set)) continue;
        *found_new = true;
        // ESRCH: it has ended since.
        if (sched_setaffinity(thread, sizeof *wanted, &wanted->set) != 0 && errno != ESRCH) result = -1;
    }
    int reason = errno;
    closedir(threads);
    errno = reason;
    return result;
}

int cs_affinity_bind_process(const int32_t *cpus, int32_t count) {
    mask wanted = {.bytes = {0}};
    for (int32_t i = 0; i < count; i++)
        if (cpus[i] >= 0 && cpus[i] < MASK_CPUS) CPU_SET_S((size_t)cpus[i], sizeof wanted, &wanted.set);
    if (sched_setaffinity(0, sizeof wanted, &wanted.set) != 0) return -1;
    // The kernel may have taken CPUs out that the process may not use.
    if (sched_getaffinity(0, sizeof wanted, &wanted.set) < 0) return -1;
    // A thread that another one starts meanwhile may inherit the old mask: look again until all have the new one.
    for (int pass = 0; pass < 100; pass++) {
        bool found_new = false;
        if (bind_listed(&wanted, &found_new) != 0) return -1;
        if (!found_new) return 0;
    }
    return 0;
}
