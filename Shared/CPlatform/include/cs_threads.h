// A fixed team of threads that runs the parts of one loop at a time.
#ifndef CS_THREADS_H
#define CS_THREADS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cs_team cs_team;

/// One part of a loop: `part` in [0, parts), `member` in [0, members). Members with different numbers run at once.
typedef void (*cs_part)(void *_Nullable context, int64_t part, int32_t member);

/// The threads that a team starts on one memory node.
typedef struct {
    int32_t threads;             ///< 0 or more
    const int32_t *_Nullable cpus; ///< numbers of the CPUs they are bound to
    int32_t cpu_count;           ///< 0: they are not bound
} cs_team_node;

/// What a team is made of: the caller of `cs_team_run`, member 0, and the threads of the nodes, numbered from 1.
typedef struct {
    const char *_Nonnull name;   ///< of the threads, at most 15 bytes
    const cs_team_node *_Nonnull nodes;
    int32_t node_count;          ///< at least 1
    bool spins;                  ///< whether members wait for about 20 µs before they sleep
} cs_team_plan;

/// Starts a team; nothing in `plan` is kept. NULL when a thread cannot be started. The owner frees it with
/// `cs_team_free`. A thread that cannot be bound to its node's CPUs runs unbound.
cs_team *_Nullable cs_team_new(const cs_team_plan *_Nonnull plan);

/// Ends and joins the threads. No run may be in progress.
void cs_team_free(cs_team *_Nonnull team);

/// Members of the team, the caller included.
int32_t cs_team_members(const cs_team *_Nonnull team);

/// Calls `body` once for every part in [0, parts) and returns when all have returned. Every node has a contiguous range
/// of the parts, in proportion to its members; they take parts in rising order as they become free, first those of
/// their own node, then those that other nodes have left. The caller counts for the node it runs on. Calls from several
/// threads wait for each other; a body must not run its own team.
void cs_team_run(cs_team *_Nonnull team, int64_t parts, cs_part _Nonnull body, void *_Nullable context);

#ifdef __cplusplus
}
#endif

#endif
