"""Holds the computing threads of a process with ptrace, so that its other threads go on: `hold_threads.py PID NAME`.

Prints `held N` once every thread whose name begins with NAME stands still, and lets go when it is stopped.
"""

import ctypes
import os
import signal
import sys

SEIZE, INTERRUPT = 0x4206, 0x4207

libc = ctypes.CDLL("libc.so.6", use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def call(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")


process, name = int(sys.argv[1]), sys.argv[2]
held = 0
for entry in os.listdir(f"/proc/{process}/task"):
    with open(f"/proc/{process}/task/{entry}/comm") as file:
        if not file.read().startswith(name):
            continue
    call(SEIZE, int(entry))
    call(INTERRUPT, int(entry))
    held += 1
print(f"held {held}", flush=True)
signal.pause()
