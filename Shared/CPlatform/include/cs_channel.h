#ifndef CS_CHANNEL_H
#define CS_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

/// Connections over a socket file that can carry a descriptor from one process to another. Messages keep their borders
/// (SOCK_SEQPACKET); the end of either process is seen by the other at once.

/// Listens at `path`, which must be free, with mode 0600; never blocks. The descriptor, or -1 with errno.
int cs_channel_listen(const char *_Nonnull path);
/// The next connection that waits, not blocking; -1 with errno (EAGAIN: none).
int cs_channel_accept(int listener);
/// Connects; never blocks, now or in a later receive. -1 with errno (EAGAIN: too many others wait to be accepted).
int cs_channel_connect(const char *_Nonnull path);
/// Whether the process at the other end runs as this process's user, by the kernel's word at the time it connected (or
/// listened): 1, 0, or -1 with errno.
int cs_channel_is_own_user(int descriptor);
/// Sends one message, and `passed` with it unless that is negative. 0, or -1 with errno.
int cs_channel_send(int descriptor, const void *_Nonnull bytes, size_t count, int passed);
/// Receives one message of at most `capacity` bytes: its length, 0 at the end, -1 with errno (EAGAIN: none
/// yet, EMSGSIZE: it was longer).
/// `*passed` is the descriptor that came with it, close-on-exec and the caller's to close, or -1.
int64_t cs_channel_receive(int descriptor, void *_Nonnull bytes, size_t capacity, int *_Nonnull passed);

#endif
