#ifndef CS_EVENTFD_H
#define CS_EVENTFD_H

/// A counter that one thread adds to and another polls: the way to wake a thread that sits in `poll`.

/// Makes a non-blocking, close-on-exec eventfd; -1 and errno on failure.
int cs_eventfd_create(void);
/// Adds one; a full counter is as good as a wake-up.
void cs_eventfd_signal(int descriptor);
/// Resets the counter, so that `poll` sleeps again.
void cs_eventfd_drain(int descriptor);

#endif
