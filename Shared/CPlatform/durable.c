#define _GNU_SOURCE
#include "cs_durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

int cs_directory_sync(const char *path) {
    const int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    int result;
    do result = fsync(descriptor);
    while (result < 0 && errno == EINTR);
    const int saved = errno;
    close(descriptor);
    errno = saved;
    return result;
}

int cs_durable_rename(const char *from, const char *to, const char *parent) {
    if (rename(from, to) < 0) return -1;
    return cs_directory_sync(parent);
}

uint64_t cs_disk_available(const char *path) {
    struct statvfs status;
    if (statvfs(path, &status) < 0) return UINT64_MAX;
    return (uint64_t)status.f_bavail * (uint64_t)status.f_frsize;
}

int cs_file_lock(int descriptor) { return flock(descriptor, LOCK_EX | LOCK_NB); }
