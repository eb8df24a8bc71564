#ifndef CS_AFFINITY_H
#define CS_AFFINITY_H

#include <stdint.h>

/// The CPUs that threads may run on.

/// The numbers of the CPUs that the calling thread may use, rising, at most `capacity` of them; returns how many there
/// are, or -1 with errno set.
int32_t cs_affinity_get(int32_t *_Nonnull cpus, int32_t capacity);
/// Binds every thread of this process, and so every thread they start, to these CPUs; 0, or -1 with errno set. The
/// kernel refuses a list without a CPU that the process may use (EINVAL).
int cs_affinity_bind_process(const int32_t *_Nonnull cpus, int32_t count);

#endif
