"""Stops single threads of a process with ptrace, while the others run on."""

import ctypes
import os

SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def is_possible():
    child = os.fork()
    if child == 0:
        os.execvp("sleep", ["sleep", "5"])
    try:
        return libc.ptrace(SEIZE, child, None, None) == 0
    finally:
        os.kill(child, 9)
        os.waitpid(child, WALL)


class Threads:
    """The threads of `pid` whose name `is_wanted`, stopped until `release`.

    ptrace belongs to the thread that seizes: everything here must be called by one thread."""

    def __init__(self, pid, is_wanted):
        self.pid, self.stopped = pid, []
        for name in os.listdir(f"/proc/{pid}/task"):
            thread = int(name)
            with open(f"/proc/{pid}/task/{thread}/comm") as file:
                title = file.read().strip()
            if is_wanted(title) and libc.ptrace(SEIZE, thread, None, None) == 0:
                libc.ptrace(INTERRUPT, thread, None, None)
                os.waitpid(thread, WALL)
                self.stopped.append(thread)

    def release(self):
        for thread in self.stopped:
            libc.ptrace(DETACH, thread, None, None)
        self.stopped = []
