"""Holds the computing threads of a process with ptrace, so that its other threads go on: `hold_threads.py PID`.

The caller of a loop computes too, and a sleeping member of the pool is not missed: whatever worked most during a third of
a second, and whatever worked half as much, stands still. Prints `held N` then, and lets go when it is stopped.
"""

import ctypes
import os
import sys
import time

SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000

libc = ctypes.CDLL("libc.so.6", use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def call(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")


def ticks(process):
    """Processor time of each thread."""
    found = {}
    for entry in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{entry}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        found[int(entry)] = int(fields[11]) + int(fields[12])
    return found


process = int(sys.argv[1])
before = ticks(process)
time.sleep(0.3)
worked = {thread: count - before.get(thread, 0) for thread, count in ticks(process).items()}
busy = [thread for thread, count in worked.items() if count > 0 and 2 * count >= max(worked.values())]
for thread in busy:
    call(SEIZE, thread)
    call(INTERRUPT, thread)
print(f"held {len(busy)}", flush=True)
# Threads that die held have to be buried here before their process can end.
while True:
    try:
        os.waitpid(-1, WALL)
    except ChildProcessError:
        break
