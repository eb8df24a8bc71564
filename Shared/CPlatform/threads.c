// A team of threads with dynamic parts (docs/decisions/0007-threads-and-memory-nodes.md).
//
// Members wait in groups. A group has a bell, which rises with every loop that the group takes part in and which its
// members watch or sleep on, and a gate, which counts the members inside the loop. Nothing is locked on the way in or
// out: a loop is published by opening its gates, and is over when they are closed and empty. A member that slept
// through a loop costs nothing.
#define _GNU_SOURCE
#include "include/cs_threads.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPIN_NANOSECONDS = 20000, PAUSES_PER_LOOK = 32, GROUP_MEMBERS = 16, LINE = 64 };

/// The gate: whether members may enter, whether the caller sleeps until the last one leaves, and how many are inside.
static const unsigned OPEN = 1u << 31, AWAITED = 1u << 30, INSIDE = (1u << 30) - 1;

typedef struct {
    _Alignas(LINE) atomic_uint bell;
    atomic_int asleep;      // members that sleep on the bell, or are about to
    atomic_int relay;       // members that the first one to wake up is to wake
    _Alignas(LINE) atomic_uint gate;
    _Alignas(LINE) int32_t members;
    bool takes_part;        // in the loop that runs; the caller's
} group;

typedef struct {
    _Alignas(LINE) atomic_llong next;
    int64_t end;            // of this loop's range
    _Alignas(LINE) int32_t threads;
    int32_t first_group, groups;
    int64_t wanted;         // members that this loop has parts for; the caller's
    cpu_set_t *cpus;        // NULL: not bound
    size_t cpus_bytes;
} node;

typedef struct {
    cs_team *team;
    group *group;
    int32_t number, node;
    pthread_t thread;
} member;

struct cs_team {
    pthread_mutex_t turn;   // held by the caller whose loop runs
    _Alignas(LINE) cs_part body;  // written before the gates open and read by those inside
    void *context;
    _Alignas(LINE) atomic_bool ending;
    bool spins;
    int32_t members, started, node_count, group_count;
    node *nodes;
    group *groups;
    member *list;
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

/// Sleeps while `*word` is `value`; may return early.
static void sleep_on(atomic_uint *word, unsigned value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(atomic_uint *word, int count) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0); }

/// Zeroed memory on cache lines of its own.
static void *lines(size_t bytes) {
    bytes = (bytes + LINE - 1) / LINE * LINE;
    void *memory = aligned_alloc(LINE, bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

// What a member does

static void take_parts(cs_team *team, int32_t home, int32_t number) {
    for (int32_t i = 0; i < team->node_count; i++) {
        node *from = &team->nodes[(home + i) % team->node_count];
        // Ranges of other nodes are looked at before they are written to: most are used up by then.
        while (i == 0 || atomic_load_explicit(&from->next, memory_order_relaxed) < from->end) {
            int64_t part = atomic_fetch_add_explicit(&from->next, 1, memory_order_relaxed);
            if (part >= from->end) break;
            team->body(team->context, part, number);
        }
    }
}

/// Waits until the bell differs from `seen` and returns it.
static unsigned wait_for_bell(group *group, unsigned seen, bool spins) {
    unsigned bell = atomic_load_explicit(&group->bell, memory_order_acquire);
    if (spins && bell == seen) {
        int64_t end = nanoseconds() + SPIN_NANOSECONDS;
        do {
            pause_briefly();
            bell = atomic_load_explicit(&group->bell, memory_order_acquire);
        } while (bell == seen && nanoseconds() < end);
    }
    if (bell != seen) return bell;
    // Either the caller sees this member asleep and wakes it, or the member sees the bell that the caller rang before
    // it looked: both orders need sequential consistency.
    atomic_fetch_add(&group->asleep, 1);
    while ((bell = atomic_load(&group->bell)) == seen) sleep_on(&group->bell, seen);
    atomic_fetch_sub(&group->asleep, 1);
    if (atomic_load(&group->relay) > 0) {
        int others = atomic_exchange(&group->relay, 0);
        if (others > 0) wake(&group->bell, others);
    }
    return bell;
}

static void leave(group *group) {
    unsigned before = atomic_fetch_sub_explicit(&group->gate, 1, memory_order_release);
    if ((before & AWAITED) && (before & INSIDE) == 1) wake(&group->gate, 1);
}

static void *member_main(void *argument) {
    member *self = argument;
    cs_team *team = self->team;
    node *home = &team->nodes[self->node];
    if (home->cpus) sched_setaffinity(0, home->cpus_bytes, home->cpus);
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_bell(self->group, seen, team->spins);
        if (atomic_load(&team->ending)) return NULL;
        if (atomic_fetch_add_explicit(&self->group->gate, 1, memory_order_acquire) & OPEN)
            take_parts(team, self->node, self->number);
        leave(self->group);
    }
}

// Making and ending a team

static bool set_up_node(cs_team *team, node *next, const cs_team_node *wanted) {
    next->threads = wanted->threads > 0 ? wanted->threads : 0;
    next->first_group = team->group_count;
    next->groups = (next->threads + GROUP_MEMBERS - 1) / GROUP_MEMBERS;
    team->group_count += next->groups;
    team->members += next->threads;
    int32_t highest = -1;
    for (int32_t i = 0; i < wanted->cpu_count; i++)
        if (wanted->cpus[i] > highest) highest = wanted->cpus[i];
    if (highest < 0) return true;
    next->cpus = CPU_ALLOC((size_t)highest + 1);
    if (!next->cpus) return false;
    next->cpus_bytes = CPU_ALLOC_SIZE((size_t)highest + 1);
    CPU_ZERO_S(next->cpus_bytes, next->cpus);
    for (int32_t i = 0; i < wanted->cpu_count; i++)
        if (wanted->cpus[i] >= 0) CPU_SET_S((size_t)wanted->cpus[i], next->cpus_bytes, next->cpus);
    return true;
}

static bool start_members(cs_team *team, const char *name) {
    for (int32_t n = 0; n < team->node_count; n++) {
        const node *home = &team->nodes[n];
        for (int32_t i = 0; i < home->threads; i++) {
            // Groups of one node are as equal as can be.
            group *joined = &team->groups[home->first_group + i % home->groups];
            member *next = &team->list[team->started];
            *next = (member){.team = team, .group = joined, .number = team->started + 1, .node = n};
            if (pthread_create(&next->thread, NULL, member_main, next) != 0) return false;
            joined->members++;
            team->started++;
            pthread_setname_np(next->thread, name);
        }
    }
    return true;
}

cs_team *cs_team_new(const cs_team_plan *plan) {
    cs_team *team = lines(sizeof(cs_team));
    if (!team) return NULL;
    pthread_mutex_init(&team->turn, NULL);
    team->members = 1;
    team->spins = plan->spins;
    team->nodes = lines((size_t)plan->node_count * sizeof(node));
    bool made = team->nodes != NULL;
    while (made && team->node_count < plan->node_count) {
        made = set_up_node(team, &team->nodes[team->node_count], &plan->nodes[team->node_count]);
        team->node_count++;
    }
    if (made) {
        team->groups = lines((size_t)(team->group_count + 1) * sizeof(group));
        team->list = lines((size_t)team->members * sizeof(member));
        made = team->groups && team->list && start_members(team, plan->name);
    }
    if (made) return team;
    cs_team_free(team);
    return NULL;
}

void cs_team_free(cs_team *team) {
    atomic_store(&team->ending, true);
    for (int32_t i = 0; team->groups && i < team->group_count; i++) {
        atomic_fetch_add(&team->groups[i].bell, 1);
        wake(&team->groups[i].bell, INT_MAX);
    }
    for (int32_t i = 0; i < team->started; i++) pthread_join(team->list[i].thread, NULL);
    for (int32_t i = 0; i < team->node_count; i++)
        if (team->nodes[i].cpus) CPU_FREE(team->nodes[i].cpus);
    pthread_mutex_destroy(&team->turn);
    free(team->list);
    free(team->groups);
    free(team->nodes);
    free(team);
}

int32_t cs_team_members(const cs_team *team) { return team->members; }

// What the caller does

/// The node that the caller runs on, as far as its CPU tells.
static int32_t home_of_caller(const cs_team *team) {
    int cpu = team->node_count > 1 ? sched_getcpu() : -1;
    for (int32_t i = 0; cpu >= 0 && i < team->node_count; i++) {
        const node *candidate = &team->nodes[i];
        if (candidate->cpus && CPU_ISSET_S((size_t)cpu, candidate->cpus_bytes, candidate->cpus)) return i;
    }
    return 0;
}

/// Lets a group in and wakes up to `wanted` of its members: one directly, which wakes the others.
static void ring(group *group, int64_t wanted) {
    group->takes_part = true;
    atomic_fetch_or_explicit(&group->gate, OPEN, memory_order_release);
    atomic_fetch_add(&group->bell, 1);
    int asleep = atomic_load(&group->asleep);
    if (asleep > wanted) asleep = (int)wanted;
    atomic_store(&group->relay, asleep - 1);
    if (asleep > 0) wake(&group->bell, 1);
}

static void open_loop(cs_team *team, int32_t home, int64_t parts, cs_part body, void *context) {
    team->body = body;
    team->context = context;
    int64_t members = 0;
    for (int32_t i = 0; i < team->node_count; i++) {
        node *next = &team->nodes[i];
        int64_t first = parts * members / team->members;
        members += next->threads + (i == home);
        next->end = parts * members / team->members;
        next->wanted = next->end - first - (i == home);
        atomic_store_explicit(&next->next, first, memory_order_relaxed);
    }
    for (int32_t i = 0; i < team->node_count; i++) {
        const node *next = &team->nodes[i];
        int64_t wanted = next->wanted;
        for (int32_t g = next->first_group; g < next->first_group + next->groups && wanted > 0; g++) {
            ring(&team->groups[g], wanted);
            wanted -= team->groups[g].members;
        }
    }
}

/// Waits until nobody is inside a closed gate, from `end` on asleep.
static void wait_until_empty(group *group, int64_t end) {
    unsigned gate;
    while ((gate = atomic_load_explicit(&group->gate, memory_order_acquire)) & INSIDE && nanoseconds() < end)
        pause_briefly();
    if (!(gate & INSIDE)) return;
    gate = atomic_fetch_or(&group->gate, AWAITED) | AWAITED;
    while (gate & INSIDE) {
        sleep_on(&group->gate, gate);
        gate = atomic_load(&group->gate);
    }
    atomic_fetch_and(&group->gate, ~AWAITED);
}

/// Lets nobody else in and waits for those inside.
static void close_loop(cs_team *team) {
    for (int32_t i = 0; i < team->group_count; i++)
        if (team->groups[i].takes_part) atomic_fetch_and(&team->groups[i].gate, ~OPEN);
    int64_t end = team->spins ? nanoseconds() + SPIN_NANOSECONDS : 0;
    for (int32_t i = 0; i < team->group_count; i++) {
        if (team->groups[i].takes_part) wait_until_empty(&team->groups[i], end);
        team->groups[i].takes_part = false;
    }
}

void cs_team_run(cs_team *team, int64_t parts, cs_part body, void *context) {
    if (parts <= 0) return;
    pthread_mutex_lock(&team->turn);
    if (parts == 1 || team->started == 0) {
        for (int64_t part = 0; part < parts; part++) body(context, part, 0);
    } else {
        int32_t home = home_of_caller(team);
        open_loop(team, home, parts, body, context);
        take_parts(team, home, 0);
        close_loop(team);
    }
    pthread_mutex_unlock(&team->turn);
}
