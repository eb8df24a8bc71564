// A fixed team of threads that runs the parts of one loop at a time.
#ifndef CS_THREADS_H
#define CS_THREADS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cs_team cs_team;

/// One part of a loop: `part` in [0, parts), `member` in [0, members). Members with different numbers run at once.
typedef void (*cs_part)(void *_Nullable context, int64_t part, int32_t member);

/// Processor cores that this process may use (its affinity mask), at least 1.
int32_t cs_usable_cores(void);

/// Starts a team of `members` ≥ 1: the caller of `cs_team_run` and `members − 1` threads named `name` (at most 15 bytes).
/// NULL when a thread cannot be started. The owner frees it with `cs_team_free`.
cs_team *_Nullable cs_team_new(int32_t members, const char *_Nonnull name);

/// Ends and joins the threads. No run may be in progress.
void cs_team_free(cs_team *_Nonnull team);

/// Members of the team, the caller included.
int32_t cs_team_members(const cs_team *_Nonnull team);

/// Calls `body` once for every part in [0, parts) and returns when all have returned. Members take parts in rising
/// order as they become free. Calls from several threads wait for each other; a body must not run its own team.
/// A member that waits for work spins for about 20 µs and then sleeps.
void cs_team_run(cs_team *_Nonnull team, int64_t parts, cs_part _Nonnull body, void *_Nullable context);

#ifdef __cplusplus
}
#endif

#endif
