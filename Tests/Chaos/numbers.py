#!/usr/bin/env python3
"""How long faults take and what a long queue costs, measured on the release executables with the demo model.

    Tests/Chaos/numbers.py [--bin FOLDER] [--only "disk resume restart queue"] [--jobs 10000] [--update-docs]

Every measurement is a function that yields rows of the table: (what, value). The checker of the chaos matrix judges the
history behind each as well.
"""

import argparse
import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import history
from cluster import REQUEST, STAGES, Cluster, Wrong, wait

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(os.path.dirname(os.path.dirname(HERE)), "docs", "reliability.md")
MARKS = "<!-- numbers -->", "<!-- end of numbers -->"
STEPS = 500


def spread(seconds):
    """Median and worst."""
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2]:.2f} s, worst {ordered[-1]:.2f} s ({len(ordered)} times)"


def answers(cluster):
    return cluster.ask("GET", "/v1/videos?limit=1", strict=False, attempts=1)[0] == 200


def resumed_step(cluster, holder, step):
    """Kills the holder of a render at `step`; (seconds to the next lease, seconds to the first step after it), or None
    when the render was over first."""
    job = cluster.submit(num_inference_steps=STEPS, num_frames=9)
    denoiser = wait_step(cluster, job, step)
    if denoiser is None:
        return None
    holder = denoiser["worker"]
    cluster[holder].kill()
    killed, leased = time.monotonic(), None

    def went_on():
        nonlocal leased
        task = cluster.task(job, "denoiser")
        if task["worker"] in ("", holder):
            return None
        leased = leased or time.monotonic() - killed
        return task["state"] == "done" or task["step"] > denoiser["step"]
    wait("the render goes on", went_on, 120, 0.005)
    went = time.monotonic() - killed
    cluster[holder].start()
    cluster.finish(job)
    wait("both denoisers serve", lambda: cluster.ask("GET", "/healthz")[1]["stages"]["denoiser"]["workers"] == 2, 60)
    return leased, went


def wait_step(cluster, job, step):
    def reached():
        task = cluster.task(job, "denoiser")
        return task if task["step"] >= step or task["state"] == "done" else None
    task = wait(f"step {step}", reached, 60, 0.005)
    return None if task["state"] == "done" else task


def resume(options):
    for lease, beat, count in ((1.5, 100, 10), (15, 1000, 5)):
        cluster = Cluster(options.bin, lease=lease, beat=beat, workers={"denoiser": 2})
        try:
            history.record(cluster)
            found = []
            while len(found) < count:
                measured = resumed_step(cluster, None, 20 + 25 * (len(found) % 10))
                if measured:
                    found.append(measured)
            history.check(cluster)
        finally:
            cluster.remove()
        yield f"denoiser `kill -9` → another has the lease, `--lease-seconds {lease:g}`", spread(
            [leased for leased, _ in found])
        yield "the same → a step that the dead one had not reported is done", spread([went for _, went in found])


def restart(options):
    cluster = Cluster(options.bin, lease=6)
    try:
        history.record(cluster)
        job = cluster.submit(num_inference_steps=1000, num_frames=9)
        cluster.wait_held(job, "denoiser", step=5)
        took = []
        for _ in range(20):
            cluster.broker.kill()
            began = time.monotonic()
            cluster.broker.start()
            wait("the broker answers", lambda: answers(cluster), 30, 0.005)
            took.append(time.monotonic() - began)
            time.sleep(0.3)
        cluster.finish(job)
        attempts = cluster.task(job, "denoiser")["attempt"]
        if attempts != 1:
            raise Wrong(f"the render needed {attempts} attempts")
        history.check(cluster)
    finally:
        cluster.remove()
    yield "broker `kill -9` and start → first answer through the gateway, one render running on", spread(took)


class Submitter(threading.Thread):
    """One client on one connection, with a tenant of its own for every 500 jobs."""

    def __init__(self, cluster, numbers):
        super().__init__(daemon=True)
        self.cluster, self.numbers, self.took, self.problem = cluster, numbers, [], None

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.port, timeout=60)
        try:
            for number in self.numbers:
                body = json.dumps({**REQUEST, "seed": number})
                began = time.monotonic()
                connection.request("POST", "/v1/videos", body, {
                    "Content-Type": "application/json", "Idempotency-Key": f"queue-{number}",
                    "Authorization": f"Bearer tenant-{number // 500}"})
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    raise Wrong(f"job {number} is answered with {answer.status}: {content[:200]}")
                self.took.append(time.monotonic() - began)
                with self.cluster.lock:
                    self.cluster.accepted.append((json.loads(content)["id"], f"queue-{number}"))
        except Exception as problem:
            self.problem = problem
        finally:
            connection.close()


def flushes(options):
    """What the disk beneath it all does at this moment, for comparison."""
    folder = tempfile.mkdtemp(prefix="zc-", dir="/tmp")
    took = []
    try:
        with open(os.path.join(folder, "file"), "wb", buffering=0) as file:
            for _ in range(200):
                began = time.monotonic()
                file.write(bytes(4096))
                os.fdatasync(file.fileno())
                took.append(time.monotonic() - began)
    finally:
        shutil.rmtree(folder)
    took.sort()
    yield ("this disk, for comparison: append 4 KiB and flush",
           f"median {1000 * took[100]:.1f} ms, 99 % {1000 * took[197]:.1f} ms; load average {os.getloadavg()[0]:.1f}")


def timed(body):
    began = time.monotonic()
    body()
    return time.monotonic() - began


def queue(options):
    cluster = Cluster(options.bin, workers={stage: 0 for stage in STAGES}, start=False)
    try:
        cluster.broker.start()
        cluster.gateway.start()
        history.record(cluster)
        wait("the gateway answers", lambda: answers(cluster), 30)
        empty = cluster.broker.rss()
        clients = [Submitter(cluster, range(first, options.jobs, 8)) for first in range(8)]
        began = time.monotonic()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        seconds = time.monotonic() - began
        problem = next((client.problem for client in clients if client.problem), None)
        if problem:
            raise problem
        took = sorted(time for client in clients for time in client.took)
        full = cluster.broker.rss()
        ledger = sum(os.stat(history.path_of(cluster) + tail).st_size for tail in ("", "-wal")
                     if os.path.exists(history.path_of(cluster) + tail))
        label = f"{options.jobs:,} jobs in the queue"
        yield (f"{label}: SUBMIT over HTTP by 8 clients, each on disk before its answer",
               f"{options.jobs / seconds:.0f} a second; median {1000 * took[len(took) // 2]:.0f} ms, "
               f"99 % {1000 * took[len(took) * 99 // 100]:.0f} ms, worst {1000 * took[-1]:.0f} ms")
        yield (f"{label}: resident memory of the broker",
               f"{full / 1e6:.0f} MB, {(full - empty) / 1024 / options.jobs:.1f} KiB a job")
        yield f"{label}: ledger on disk, with the checker's copy of its entries", f"{ledger / 1e6:.0f} MB"
        job = cluster.accepted[len(cluster.accepted) // 2][0]
        yield f"{label}: status of one, list of 20", ", ".join(
            f"{1000 * sorted(timed(ask) for _ in range(20))[10]:.0f} ms" for ask in (
                lambda: cluster.job(job), lambda: cluster.ask("GET", "/v1/videos?limit=20")))
        if options.jobs >= 10_000:
            status, answer = cluster.ask("POST", "/v1/videos", REQUEST, attempts=1, strict=False)
            if status != 429 or answer["error"]["code"] != "overloaded":
                raise Wrong(f"one more job is answered with {status}: {answer}")
            yield "one more", "429 `overloaded`"
        found = []
        for _ in range(5):
            cluster.broker.kill()
            began = time.monotonic()
            cluster.broker.start()
            wait("the broker answers", lambda: answers(cluster), 120, 0.005)
            found.append(time.monotonic() - began)
        yield f"{label}: broker `kill -9` and start → first answer", spread(found)
        yield f"{label}: resident memory after the restart", f"{cluster.broker.rss() / 1e6:.0f} MB"
        began = time.monotonic()
        for stage in STAGES:
            cluster.worker(stage).start()
        wait("a job is done", lambda: history.count(cluster, "task_completed", "mux"), 180, 0.05)
        yield f"{label}: first worker of each stage starts → a job is done", f"{time.monotonic() - began:.1f} s"
        time.sleep(10)
        yield (f"{label}: jobs done {time.monotonic() - began:.0f} s after that start",
               str(history.count(cluster, "task_completed", "mux")))
        history.check(cluster, unfinished_allowed=True)
    finally:
        cluster.remove()


MEASUREMENTS = {"disk": flushes, "resume": resume, "restart": restart, "queue": queue}


def update_docs(rows):
    with open(PAGE) as file:
        page = file.read()
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    text = "\n".join(["| measured | value | command: `make reliability-numbers` with |", "|---|---|---|"] + [
        f"| {what} | {value} | `ONLY={name}` |" for name, what, value in rows])
    with open(PAGE, "w") as file:
        file.write(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def main():
    scratch = os.environ.get("ZOETROPE_SCRATCH") or ".build"
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=os.environ.get("ZOETROPE_BIN") or os.path.join(scratch, "release"))
    parser.add_argument("--only", default="", help=" ".join(MEASUREMENTS))
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--update-docs", action="store_true")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    rows = []
    for name in options.only.split() or MEASUREMENTS:
        for what, value in MEASUREMENTS[name](options):
            rows.append((name, what, value))
            print(f"numbers: {what}: {value}", flush=True)
    if options.update_docs:
        update_docs(rows)


if __name__ == "__main__":
    main()
