#define _GNU_SOURCE
#include "lost_fsync.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct watch {
    struct watch *next;
    char *root;
    char *shadow;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watch *watches;

static int copy_file(int from, int to) {
    char buffer[1 << 16];
    off_t offset = 0;
    for (;;) {
        const ssize_t count = pread(from, buffer, sizeof buffer, offset);
        if (count <= 0) return (int)count;
        if (pwrite(to, buffer, (size_t)count, offset) != count) return -1;
        offset += count;
    }
}

// Files are `f<inode>`, directories `d<inode>` with a line "inode type name" for each entry.
static void note_file(const struct watch *watch, const char *path, const struct stat *status) {
    char name[4096];
    snprintf(name, sizeof name, "%s/f%ju", watch->shadow, (uintmax_t)status->st_ino);
    // The descriptor that was flushed may be open for writing only.
    const int from = open(path, O_RDONLY | O_CLOEXEC);
    const int to = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (from >= 0 && to >= 0) copy_file(from, to);
    if (from >= 0) close(from);
    if (to >= 0) close(to);
}

static void note_directory(const struct watch *watch, const char *path, const struct stat *status) {
    char name[4096];
    snprintf(name, sizeof name, "%s/d%ju", watch->shadow, (uintmax_t)status->st_ino);
    DIR *directory = opendir(path);
    FILE *list = fopen(name, "we");
    struct dirent *entry;
    while (directory != NULL && list != NULL && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        struct stat found;
        if (fstatat(dirfd(directory), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) < 0) continue;
        const char type = S_ISDIR(found.st_mode) ? 'd' : S_ISREG(found.st_mode) ? 'f' : '-';
        if (type != '-') fprintf(list, "%ju %c %s\n", (uintmax_t)found.st_ino, type, entry->d_name);
    }
    if (directory != NULL) closedir(directory);
    if (list != NULL) fclose(list);
}

static void note(int descriptor) {
    const int saved = errno;
    char link[64], path[4096];
    struct stat status;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0 && fstat(descriptor, &status) == 0) {
        path[length] = 0;
        pthread_mutex_lock(&lock);
        for (const struct watch *watch = watches; watch != NULL; watch = watch->next) {
            const size_t size = strlen(watch->root);
            if (strncmp(path, watch->root, size) != 0 || (path[size] != '/' && path[size] != 0)) continue;
            if (S_ISREG(status.st_mode)) note_file(watch, path, &status);
            if (S_ISDIR(status.st_mode)) note_directory(watch, path, &status);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = saved;
}

int fsync(int descriptor) {
    const int result = (int)syscall(SYS_fsync, descriptor);
    if (result == 0) note(descriptor);
    return result;
}

int fdatasync(int descriptor) {
    const int result = (int)syscall(SYS_fdatasync, descriptor);
    if (result == 0) note(descriptor);
    return result;
}

static int restore(const struct watch *watch, uintmax_t inode, const char *destination) {
    char name[4096], line[4096];
    if (mkdir(destination, 0700) < 0) return -1;
    snprintf(name, sizeof name, "%s/d%ju", watch->shadow, inode);
    FILE *list = fopen(name, "re");
    if (list == NULL) return 0;
    int result = 0;
    while (result == 0 && fgets(line, sizeof line, list) != NULL) {
        uintmax_t number;
        char type, entry[512], to[4096];
        if (sscanf(line, "%ju %c %511[^\n]", &number, &type, entry) != 3) continue;
        if (snprintf(to, sizeof to, "%s/%s", destination, entry) >= (int)sizeof to) continue;
        if (type == 'd') {
            result = restore(watch, number, to);
            continue;
        }
        snprintf(name, sizeof name, "%s/f%ju", watch->shadow, number);
        // A name without flushed bytes is an empty file.
        const int output = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        const int input = open(name, O_RDONLY | O_CLOEXEC);
        if (output < 0 || (input >= 0 && copy_file(input, output) < 0)) result = -1;
        if (output >= 0) close(output);
        if (input >= 0) close(input);
    }
    fclose(list);
    return result;
}

int lost_fsync_begin(const char *root, const char *shadow) {
    struct watch *watch = malloc(sizeof *watch);
    if (watch == NULL) return -1;
    watch->root = strdup(root);
    watch->shadow = strdup(shadow);
    if (watch->root == NULL || watch->shadow == NULL) return -1;
    pthread_mutex_lock(&lock);
    watch->next = watches;
    watches = watch;
    pthread_mutex_unlock(&lock);
    return 0;
}

int lost_fsync_restore(const char *root, const char *destination) {
    int result = -1;
    struct stat status;
    if (stat(root, &status) < 0) return -1;
    pthread_mutex_lock(&lock);
    for (const struct watch *watch = watches; watch != NULL; watch = watch->next) {
        if (strcmp(watch->root, root) == 0) result = restore(watch, status.st_ino, destination);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

void lost_fsync_end(const char *root) {
    pthread_mutex_lock(&lock);
    for (struct watch **place = &watches; *place != NULL; place = &(*place)->next) {
        struct watch *watch = *place;
        if (strcmp(watch->root, root) != 0) continue;
        *place = watch->next;
        free(watch->root);
        free(watch->shadow);
        free(watch);
        break;
    }
    pthread_mutex_unlock(&lock);
}
