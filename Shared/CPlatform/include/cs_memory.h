#ifndef CS_MEMORY_H
#define CS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Memory that one process writes and others look into, behind a descriptor: an anonymous file without a name, which the
/// kernel frees with its last user.
///
/// Its size can never change, so that no reader meets an end that was not there (SIGBUS), and nobody can write to it but
/// through the mapping that was made with it. Words are 8 bytes at multiples of 8.

/// Makes such memory of `bytes`, all of it still without pages; `name` is for /proc. The descriptor, with the writable
/// mapping in `*address`; -1 with errno, EINVAL or ENOSYS where the kernel (before Linux 5.1) cannot seal it.
int cs_memory_create(const char *_Nonnull name, uint64_t bytes, void *_Nullable *_Nonnull address);
/// Provides the pages of a range, so that writing there cannot fail. 0, or errno (ENOSPC, ENOMEM).
int cs_memory_commit(int descriptor, uint64_t offset, uint64_t bytes);
/// Maps the whole of it for reading, `*bytes` long. NULL with errno: EPERM when the file is not sealed as above, EFBIG when
/// it is larger than `limit`, EINVAL when it is none at all.
const void *_Nullable cs_memory_attach(int descriptor, uint64_t limit, uint64_t *_Nonnull bytes);
void cs_memory_detach(const void *_Nonnull address, uint64_t bytes);

/// A sequence lock over bytes: their word is odd while they are written and even while they may be read, and never has a
/// value twice. (Boehm, Can Seqlocks Get Along With Programming Language Memory Models?, MSPC 2012.)

/// The word as it is now; what was written before its value is seen then.
uint64_t cs_memory_word(const void *_Nonnull word);
/// Says that the bytes of `word` are about to be written: readers that see one of the new bytes see `odd` as well.
void cs_memory_begin(void *_Nonnull word, uint64_t odd);
/// Gives the word a value that whoever sees it sees with all that was written before.
void cs_memory_publish(void *_Nonnull word, uint64_t value);
/// Copies `count` bytes and then says whether `word` still has the value `expected`: false means that what was copied may
/// be anything.
bool cs_memory_read(void *_Nonnull to, const void *_Nonnull from, size_t count, const void *_Nonnull word,
                    uint64_t expected);

#endif
