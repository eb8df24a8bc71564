// A disk that forgets: keeps, for every file, the bytes it had at its last successful fsync, under $CHAOS_DISK and by
// inode, so that a case can put them back after a kill. Preloaded by the case of a power loss only.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int keep(int descriptor) {
    const char *folder = getenv("CHAOS_DISK");
    struct stat status;
    if (folder == NULL || fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
    char source[64], path[512], temporary[560];
    snprintf(source, sizeof source, "/proc/self/fd/%d", descriptor);
    snprintf(path, sizeof path, "%s/%llu", folder, (unsigned long long)status.st_ino);
    snprintf(temporary, sizeof temporary, "%s.%d.%d", path, gettid(), descriptor);
    const int from = open(source, O_RDONLY | O_CLOEXEC);
    const int to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    static __thread char bytes[1 << 16];
    ssize_t count = -1;
    while (from >= 0 && to >= 0 && (count = read(from, bytes, sizeof bytes)) > 0) {
        if (write(to, bytes, (size_t)count) != count) break;
    }
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    // Only a complete copy counts as flushed.
    return count == 0 ? rename(temporary, path) : -1;
}

int fsync(int descriptor) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    const int result = real(descriptor);
    return result == 0 ? keep(descriptor) : result;
}

int fdatasync(int descriptor) {
    static int (*real)(int);
    if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const int result = real(descriptor);
    return result == 0 ? keep(descriptor) : result;
}
