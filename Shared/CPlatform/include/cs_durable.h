#ifndef CS_DURABLE_H
#define CS_DURABLE_H

#include <stdint.h>

/// What it takes for a file to survive a power cut. All return 0, or -1 with errno set.

/// Flushes a directory's entries (a rename or an unlink inside it) to the disk.
int cs_directory_sync(const char *path);
/// Renames `from` to `to` and flushes the directory `parent` that holds `to`. The file itself is flushed before.
int cs_durable_rename(const char *from, const char *to, const char *parent);
/// Bytes an unprivileged process may still write to the file system of `path`; UINT64_MAX when it does not say.
uint64_t cs_disk_available(const char *path);
/// Takes an exclusive advisory lock on the open file without waiting; it ends with the descriptor.
int cs_file_lock(int descriptor);

#endif
