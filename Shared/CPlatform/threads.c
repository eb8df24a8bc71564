// A team of threads with dynamic parts. The loop in progress is guarded by one mutex; only the next part is atomic.
#define _GNU_SOURCE
#include "include/cs_threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SPIN_NANOSECONDS = 20000, PAUSES_PER_LOOK = 32 };

typedef struct {
    cs_team *team;
    int32_t number;
    pthread_t thread;
} member;

struct cs_team {
    pthread_mutex_t turn;       // held by the caller whose loop runs
    pthread_mutex_t lock;       // guards what follows
    pthread_cond_t work, done;
    atomic_uint generation;     // rises with every loop; spinning members watch it without the lock
    atomic_int inside;          // members, without the caller, that entered the loop and have not left
    bool open, ending;          // a loop may be entered; the threads are to return
    int32_t asleep;             // members that wait on `work`
    bool caller_asleep;         // the caller waits on `done`
    cs_part body;
    void *context;
    int64_t parts;
    _Alignas(64) atomic_llong next;
    _Alignas(64) int32_t members, started;
    bool spins;
    member list[];
};

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void pause_briefly(void) {
    for (int i = 0; i < PAUSES_PER_LOOK; i++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

int32_t cs_usable_cores(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

static void take_parts(cs_team *team, int32_t number) {
    for (;;) {
        int64_t part = atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed);
        if (part >= team->parts) return;
        team->body(team->context, part, number);
    }
}

/// Waits until a loop newer than `seen` is open or the team ends; the lock is held before and after.
static void wait_for_work(cs_team *team, unsigned seen) {
    if (team->spins && !team->ending && atomic_load(&team->generation) == seen) {
        pthread_mutex_unlock(&team->lock);
        int64_t end = nanoseconds() + SPIN_NANOSECONDS;
        while (atomic_load_explicit(&team->generation, memory_order_acquire) == seen && nanoseconds() < end)
            pause_briefly();
        pthread_mutex_lock(&team->lock);
    }
    while (!team->ending && !(team->open && atomic_load(&team->generation) != seen)) {
        team->asleep++;
        pthread_cond_wait(&team->work, &team->lock);
        team->asleep--;
    }
}

static void *member_main(void *argument) {
    member *self = argument;
    cs_team *team = self->team;
    unsigned seen = 0;
    pthread_mutex_lock(&team->lock);
    for (;;) {
        wait_for_work(team, seen);
        if (team->ending) break;
        seen = atomic_load(&team->generation);
        atomic_fetch_add(&team->inside, 1);
        pthread_mutex_unlock(&team->lock);
        take_parts(team, self->number);
        pthread_mutex_lock(&team->lock);
        if (atomic_fetch_sub(&team->inside, 1) == 1 && team->caller_asleep) pthread_cond_signal(&team->done);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

cs_team *cs_team_new(int32_t members, const char *name) {
    if (members < 1) members = 1;
    size_t bytes = sizeof(cs_team) + (size_t)members * sizeof(member);
    cs_team *team = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!team) return NULL;
    memset(team, 0, bytes);
    pthread_mutex_init(&team->turn, NULL);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->work, NULL);
    pthread_cond_init(&team->done, NULL);
    team->members = members;
    team->spins = cs_usable_cores() > 1;
    for (team->started = 0; team->started < members - 1; team->started++) {
        member *next = &team->list[team->started];
        *next = (member){.team = team, .number = team->started + 1};
        if (pthread_create(&next->thread, NULL, member_main, next) != 0) {
            cs_team_free(team);
            return NULL;
        }
        pthread_setname_np(next->thread, name);
    }
    return team;
}

void cs_team_free(cs_team *team) {
    pthread_mutex_lock(&team->lock);
    team->ending = true;
    pthread_cond_broadcast(&team->work);
    pthread_mutex_unlock(&team->lock);
    for (int32_t i = 0; i < team->started; i++) pthread_join(team->list[i].thread, NULL);
    pthread_cond_destroy(&team->work);
    pthread_cond_destroy(&team->done);
    pthread_mutex_destroy(&team->lock);
    pthread_mutex_destroy(&team->turn);
    free(team);
}

int32_t cs_team_members(const cs_team *team) { return team->members; }

static void open_loop(cs_team *team, int64_t parts, cs_part body, void *context) {
    pthread_mutex_lock(&team->lock);
    team->body = body;
    team->context = context;
    team->parts = parts;
    atomic_store(&team->next, 0);
    team->open = true;
    atomic_fetch_add_explicit(&team->generation, 1, memory_order_release);
    int64_t useful = parts - 1 < team->asleep ? parts - 1 : team->asleep;
    for (int64_t i = 0; i < useful; i++) pthread_cond_signal(&team->work);
    pthread_mutex_unlock(&team->lock);
}

/// Lets nobody else in and waits for those inside: a member that slept through the loop costs nothing.
static void close_loop(cs_team *team) {
    pthread_mutex_lock(&team->lock);
    team->open = false;
    pthread_mutex_unlock(&team->lock);
    int64_t end = team->spins ? nanoseconds() + SPIN_NANOSECONDS : 0;
    while (atomic_load_explicit(&team->inside, memory_order_acquire) > 0 && nanoseconds() < end) pause_briefly();
    pthread_mutex_lock(&team->lock);
    team->caller_asleep = true;
    while (atomic_load(&team->inside) > 0) pthread_cond_wait(&team->done, &team->lock);
    team->caller_asleep = false;
    pthread_mutex_unlock(&team->lock);
}

void cs_team_run(cs_team *team, int64_t parts, cs_part body, void *context) {
    if (parts <= 0) return;
    pthread_mutex_lock(&team->turn);
    if (parts == 1 || team->started == 0) {
        for (int64_t part = 0; part < parts; part++) body(context, part, 0);
    } else {
        open_loop(team, parts, body, context);
        take_parts(team, 0);
        close_loop(team);
    }
    pthread_mutex_unlock(&team->turn);
}
