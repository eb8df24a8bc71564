#!/usr/bin/env python3
"""An hour of random faults under load: is anything lost, does anything grow?

    Tests/Chaos/soak.py [--bin FOLDER] [--minutes 60] [--rate 10] [--seed 1] [--plot soak.svg] [--data soak.json]

Jobs come at `--rate` a minute; every few seconds a worker is killed or frozen, now and then broker or gateway. Sampled
every five seconds: resident memory and open descriptors of every process, bytes of the data directory, jobs. At the end
every accepted job must have ended exactly once, every completed one with the digests of an undisturbed run, and memory,
descriptors and disk must not have grown over the second half.
"""

import argparse
import json
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import history
import plot
from cluster import Cluster, Wrong, wait

KINDS = {"short": {"num_inference_steps": 10, "num_frames": 9}, "long": {"num_inference_steps": 40, "num_frames": 9}}
ROLES = ["broker", "gateway", "text-encoder", "denoiser", "vae-decoder", "video-muxer"]


def folder_bytes(path):
    total = 0
    for root, _, files in os.walk(path):
        for name in files:
            try:
                total += os.stat(os.path.join(root, name)).st_blocks * 512
            except OSError:
                pass
    return total


class Soak:
    def __init__(self, options):
        self.options, self.chance = options, random.Random(options.seed)
        retention = max(0.02, min(1.0, options.minutes / 60 / 10))  # finished jobs go within the run
        self.cluster = Cluster(
            options.bin, lease=3, workers={"denoiser": 2}, broker=("--retention-hours", f"{retention:g}"), start=False)
        self.cluster.start()
        history.record(self.cluster)
        self.kinds, self.refused, self.problems = {}, 0, []
        self.rows, self.samples, self.faults = [], [], []
        self.began = time.monotonic()
        self.stop = threading.Event()

    def age(self):
        return time.monotonic() - self.began

    def submitting(self):
        number = 0
        while not self.stop.is_set():
            kind = "long" if number % 3 == 0 else "short"
            number += 1
            try:
                job = self.cluster.submit(f"soak-{number}", **KINDS[kind])
                self.kinds[job] = kind
            except Wrong as problem:
                if "429" in str(problem):
                    self.refused += 1
                else:
                    self.problems.append(str(problem))
            self.stop.wait(self.chance.expovariate(self.options.rate / 60))

    def harming(self):
        while not self.stop.wait(self.chance.uniform(4, 14)):
            members = self.cluster.members
            workers = [name for name in members if name not in ("broker", "gateway")]
            dice = self.chance.random()
            name = self.chance.choice(workers)
            if dice < 0.55:
                self.fault("kill", name)
            elif dice < 0.85:
                self.fault("freeze", name, self.chance.uniform(0.5, 6))
            elif dice < 0.95:
                self.fault("freeze", "broker", self.chance.uniform(0.2, 2))
            else:
                self.fault("kill", self.chance.choice(["broker", "gateway"]))

    def fault(self, what, name, seconds=0.0):
        member = self.cluster[name]
        self.faults.append((self.age(), what, name))
        if what == "kill":
            member.kill()
            member.start()
            return
        try:
            member.freeze()
        except Wrong:
            return
        self.stop.wait(seconds)
        member.thaw()

    def sample(self):
        rss, descriptors = {}, {}
        for name, member in self.cluster.members.items():
            role = next(role for role in ROLES if name.startswith(role))
            rss[role] = max(rss.get(role, 0), member.rss())
            descriptors[role] = max(descriptors.get(role, 0), member.descriptors())
        self.rows += history.drain(self.cluster)
        ended = sum(1 for row in self.rows if row[1] in ("job_ended",)) + sum(
            1 for row in self.rows if row[1] == "task_completed" and row[2]["lease"]["task"]["name"] == "mux")
        self.samples.append({
            "at": self.age(), "rss": rss, "fds": descriptors, "disk": folder_bytes(self.cluster.data),
            "accepted": len(self.kinds), "ended": ended, "faults": len(self.faults)})

    def run(self):
        threads = [threading.Thread(target=body, daemon=True) for body in (self.submitting, self.harming)]
        for thread in threads:
            thread.start()
        end = self.options.minutes * 60
        while self.age() < end:
            time.sleep(5)
            self.sample()
            for member in self.cluster.members.values():
                if not member.is_alive and time.monotonic() - self.began > 1:
                    # Killed by the other thread a moment ago, or dead of itself, which is a finding.
                    time.sleep(0.5)
                    if not member.is_alive:
                        self.problems.append(f"{member.name} ended by itself: {member.said()[-300:]}")
                        member.start()
        self.stop.set()
        for thread in threads:
            thread.join(60)
        for member in self.cluster.members.values():
            member.thaw()

        def quiet():
            self.rows += history.drain(self.cluster)
            run = history.Run(self.rows)
            return all(job in run.ended for job in run.jobs)
        wait("every accepted job ends", quiet, 300, 2)
        self.sample()

    def judge(self, references):
        run = history.Run(self.rows)
        problems = self.problems + run.problems
        for job, kind in self.kinds.items():
            if job not in run.jobs:
                problems.append(f"{job} was accepted and is not in the ledger")
            elif run.ended.get(job) == "completed" and run.outputs(job) != references[kind]:
                problems.append(f"{job} made other frames")
        growth = {}
        half = self.samples[len(self.samples) // 2:]
        for name, value in (("disk", lambda s: s["disk"]), ("fds", lambda s: sum(s["fds"].values())),
                            ("memory", lambda s: sum(s["rss"].values()))):
            growth[name] = slope([s["at"] / 3600 for s in half], [value(s) for s in half])
        ended = list(run.ended.values())
        return problems, {
            "minutes": round(self.age() / 60, 1), "accepted": len(self.kinds), "completed": ended.count("completed"),
            "failed": ended.count("failed"), "refused": self.refused, "faults": len(self.faults),
            "leases": run.kinds.get("lease_granted", 0), "lease ends": run.reasons,
            "checkpoints": run.kinds.get("checkpoint_committed", 0),
            "growth per hour in the second half": {
                "disk MB": round(growth["disk"] / 1e6, 2), "descriptors": round(growth["fds"], 1),
                "memory MB": round(growth["memory"] / 1e6, 1)}}


def slope(xs, ys):
    if len(xs) < 2:
        return 0.0
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs) or 1
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / spread


def references(bin):
    cluster = Cluster(bin)
    try:
        history.record(cluster)
        jobs = {kind: cluster.submit(**fields) for kind, fields in KINDS.items()}
        for job in jobs.values():
            cluster.finish(job)
        run = history.check(cluster)
        return {kind: run.outputs(job) for kind, job in jobs.items()}
    finally:
        cluster.remove()


def main():
    scratch = os.environ.get("ZOETROPE_SCRATCH") or ".build"
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=os.environ.get("ZOETROPE_BIN") or os.path.join(scratch, "release"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=10, help="jobs a minute")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", default="soak.svg")
    parser.add_argument("--data", help="file for the samples")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    expected = references(options.bin)
    soak = Soak(options)
    try:
        soak.run()
        problems, summary = soak.judge(expected)
    finally:
        plot.draw(options.plot, soak.samples, soak.faults, ROLES)
        if options.data:
            with open(options.data, "w") as file:
                json.dump({"samples": soak.samples, "faults": soak.faults}, file)
        soak.cluster.remove()
    print("soak: " + json.dumps(summary))
    for problem in problems[:20]:
        print(f"soak: WRONG: {problem}")
    print(f"soak: {len(problems)} violations; plot in {options.plot}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
