#!/usr/bin/env python3
"""The checker must be able to fail: a sound history passes, and every broken one is told."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from history import Run


def lease(fence, task="denoise", job="j"):
    return {"lease": {"task": {"job": job, "name": task}, "fence": fence}}


def accepted(job="j", key=""):
    return 1, "job_accepted", {"job": job, "key": {"tenant": "", "key": key}, "tasks": [{"name": "denoise"}]}


def granted(fence, epoch=1):
    return epoch, "lease_granted", lease(fence)


def completed(fence, digest="d"):
    return 1, "task_completed", {**lease(fence), "outputs": [{"name": "latents", "ref": {"digest": digest}}]}


def checkpoint(fence, step):
    return 1, "checkpoint_committed", {**lease(fence), "step": step}


def ended(fence, reason="expired"):
    return 1, "lease_ended", {**lease(fence), "reason": reason}


CANCELLED = 1, "job_ended", {"job": "j"}
LOST = 1, "outputs_lost", {"job": "j", "producers": ["denoise"], "consumer": None}

SOUND = [
    [accepted(), granted(1), checkpoint(1, 3), completed(1)],
    [accepted(), granted(1), checkpoint(1, 3), ended(1), granted(2), checkpoint(2, 4), completed(2)],
    [accepted(), granted(1), CANCELLED],
]
BROKEN = {
    "accepted twice": [accepted(), accepted()],
    "one key, two jobs": [accepted("j", "k"), accepted("i", "k")],
    "a fence that falls": [accepted(), granted(2), ended(2), granted(1)],
    "a fence used twice": [accepted(), granted(1), ended(1), granted(1)],
    "two leases at once": [accepted(), granted(1), granted(2)],
    "a result from a stale fence": [accepted(), granted(1), ended(1), granted(2), completed(1)],
    "a result without a lease": [accepted(), completed(1)],
    "two results": [accepted(), granted(1), completed(1), completed(1)],
    "a checkpoint from a stale fence": [accepted(), granted(1), ended(1), granted(2), checkpoint(1, 5)],
    "a checkpoint that goes back": [accepted(), granted(1), checkpoint(1, 5), checkpoint(1, 4)],
    "a lease after the end": [accepted(), CANCELLED, granted(1)],
    "two ends": [accepted(), granted(1), completed(1), CANCELLED],
    "another result the second time": [
        accepted(), granted(1), completed(1), LOST, granted(2), completed(2, "other")],
    "an old epoch that writes": [accepted(), granted(1, epoch=2), completed(1)],
}


def failures():
    found = [f"a sound history is refused: {Run(rows).problems}" for rows in SOUND if Run(rows).problems]
    return found + [f"not noticed: {name}" for name, rows in BROKEN.items() if not Run(rows).problems]


if __name__ == "__main__":
    for failure in failures():
        print(f"checker: {failure}")
    print(f"checker: {len(SOUND)} sound and {len(BROKEN)} broken histories, {len(failures())} misjudged")
    sys.exit(1 if failures() else 0)
