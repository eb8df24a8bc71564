// Takes the handler away that libzmq asks about keys. CHAOS_ZAP=deaf: nobody hears the questions. CHAOS_ZAP=open: nobody
// is asked either, as by a libzmq that does not enforce its domains.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { ZAP_DOMAIN_OPTION = 55, ZAP_ENFORCE_DOMAIN_OPTION = 93 };

static const char *mode(void) {
    const char *value = getenv("CHAOS_ZAP");
    return value ? value : "";
}

int zmq_bind(void *socket, const char *endpoint) {
    static int (*real)(void *, const char *);
    if (!real) real = (int (*)(void *, const char *))dlsym(RTLD_NEXT, "zmq_bind");
    if (*mode() && strcmp(endpoint, "inproc://zeromq.zap.01") == 0) endpoint = "inproc://nobody-asks-here";
    return real(socket, endpoint);
}

int zmq_setsockopt(void *socket, int option, const void *value, size_t size) {
    static int (*real)(void *, int, const void *, size_t);
    if (!real) real = (int (*)(void *, int, const void *, size_t))dlsym(RTLD_NEXT, "zmq_setsockopt");
    if (strcmp(mode(), "open") == 0 && (option == ZAP_DOMAIN_OPTION || option == ZAP_ENFORCE_DOMAIN_OPTION)) return 0;
    return real(socket, option, value, size);
}
