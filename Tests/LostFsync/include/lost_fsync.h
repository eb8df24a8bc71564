#ifndef LOST_FSYNC_H
#define LOST_FSYNC_H

// A disk that forgets what was not flushed. Linked into a test, this library's fsync and fdatasync stand before libc's for
// the whole process, SQLite included, and note what each makes durable: the bytes of a file, the entries of a directory.
// A restored copy holds that and nothing else, as a disk does after a power cut at the worst moment.

/// Begins to note what is flushed below `root`, into the empty directory `shadow`. Returns 0, or -1 with errno.
int lost_fsync_begin(const char *root, const char *shadow);

/// Writes to `destination` (which must not exist) what a power cut now would leave of `root`. Returns 0, or -1 with errno.
int lost_fsync_restore(const char *root, const char *destination);

/// Stops noting.
void lost_fsync_end(const char *root);

#endif
