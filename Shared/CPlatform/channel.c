#define _GNU_SOURCE
#include "cs_channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 64 };

static int failed(int descriptor) {
    const int saved = errno;
    close(descriptor);
    errno = saved;
    return -1;
}

static int address_of(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    const size_t length = strlen(path);
    if (length == 0 || length >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address->sun_path, path, length);
    return 0;
}

int cs_channel_listen(const char *path) {
    struct sockaddr_un address;
    if (address_of(path, &address) < 0) return -1;
    const int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    if (bind(descriptor, (const struct sockaddr *)&address, sizeof address) < 0) return failed(descriptor);
    // Nobody can connect before the mode is right, because nobody listens yet.
    if (chmod(path, 0600) < 0 || listen(descriptor, BACKLOG) < 0) {
        unlink(path);
        return failed(descriptor);
    }
    return descriptor;
}

int cs_channel_accept(int listener) {
    int descriptor;
    do descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

int cs_channel_connect(const char *path) {
    struct sockaddr_un address;
    if (address_of(path, &address) < 0) return -1;
    const int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    int result;
    do result = connect(descriptor, (const struct sockaddr *)&address, sizeof address);
    while (result < 0 && errno == EINTR);
    return result < 0 ? failed(descriptor) : descriptor;
}

int cs_channel_is_own_user(int descriptor) {
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -1;
    return peer.uid == geteuid();
}

typedef union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr alignment;
} control_buffer;

int cs_channel_send(int descriptor, const void *bytes, size_t count, int passed) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    control_buffer control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof passed);
        memcpy(CMSG_DATA(header), &passed, sizeof passed);
    }
    ssize_t sent;
    do sent = sendmsg(descriptor, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

int64_t cs_channel_receive(int descriptor, void *bytes, size_t capacity, int *passed) {
    struct iovec part = {.iov_base = bytes, .iov_len = capacity};
    control_buffer control;
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        // Room for one descriptor and no more: the kernel drops what a hostile peer sends beyond it.
        .msg_controllen = CMSG_LEN(sizeof *passed)};
    *passed = -1;
    ssize_t count;
    do count = recvmsg(descriptor, &message, MSG_CMSG_CLOEXEC);
    while (count < 0 && errno == EINTR);
    if (count < 0) return -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
            header->cmsg_len >= CMSG_LEN(sizeof *passed) && *passed < 0)
            memcpy(passed, CMSG_DATA(header), sizeof *passed);
    }
    if (message.msg_flags & MSG_TRUNC) {
        if (*passed >= 0) close(*passed);
        *passed = -1;
        errno = EMSGSIZE;
        return -1;
    }
    return count;
}
