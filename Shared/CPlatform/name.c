#define _GNU_SOURCE
#include "cs_name.h"

#include <pthread.h>
#include <string.h>

void cs_thread_set_name(const char *name) {
    char kept[16] = {0};
    strncpy(kept, name, sizeof kept - 1);
    pthread_setname_np(pthread_self(), kept);
}
