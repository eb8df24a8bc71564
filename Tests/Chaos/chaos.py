#!/usr/bin/env python3
"""Chaos with real processes: the failure matrix, one named case a row.

    Tests/Chaos/chaos.py [--bin FOLDER] [--only "1 8 20"] [--keys] [--update-docs] [--keep]

Every case starts a cluster of the release executables with the demo model, does something terrible to it and looks at
the end from outside: through HTTP, through the ledger's entries (history.py) and through the digests of an undisturbed
run. Ends with the matrix and exit status 1 when a row is not what it must be.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import history
from cluster import Cluster, Wrong

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CASES = []

KINDS = {
    "short": {"num_inference_steps": 10, "num_frames": 9},
    "long": {"num_inference_steps": 100, "num_frames": 9},
    "longer": {"num_inference_steps": 250, "num_frames": 9},
    "film": {"num_inference_steps": 4, "num_frames": 49},
}


class Skip(Exception):
    """A case cannot run here; the text says why."""


def case(row, fault, expected, pending=None):
    """Registers a case. `pending` = why the expected end is known not to be reached yet."""
    def register(body):
        CASES.append((row, fault, expected, pending, body))
        return body
    return register


class Context:
    """What a case works with; everything it starts is stopped and judged after it."""

    references = {}

    def __init__(self, bin, keep):
        self.bin, self.keep = bin, keep
        self.clusters, self.closers, self.jobs = [], [], {}

    def cluster(self, **options):
        cluster = Cluster(self.bin, **options)
        self.clusters.append(cluster)
        if options.get("start", True):
            history.record(cluster)
        return cluster

    def later(self, close):
        """Called at the end, the latest first."""
        self.closers.append(close)

    def submit(self, cluster, kind="short", key=None, **more):
        job = cluster.submit(key, **KINDS[kind], **more)
        self.note(cluster, kind, job)
        return job

    def note(self, cluster, kind, job):
        self.jobs.setdefault((id(cluster), kind), []).append(job)

    def reference(self, kind):
        """{task: {output: digest}} of a run that nobody disturbs."""
        if kind not in Context.references:
            cluster = Cluster(self.bin, keys=False)
            try:
                history.record(cluster)
                jobs = [cluster.submit(**KINDS[kind]) for _ in range(2)]
                for job in jobs:
                    cluster.finish(job)
                run = history.check(cluster)
                first, second = (run.outputs(job) for job in jobs)
                if first != second:
                    raise Wrong(f"two undisturbed runs differ: {first} and {second}")
                Context.references[kind] = first
            finally:
                cluster.remove()
        return Context.references[kind]

    def judge(self, unfinished_allowed=False):
        runs = []
        for cluster in self.clusters:
            pairs = [(jobs, self.reference(kind)) for (owner, kind), jobs in self.jobs.items() if owner == id(cluster)]
            runs.append(history.check(cluster, pairs, unfinished_allowed))
        return runs

    def end(self):
        for close in reversed(self.closers):
            try:
                close()
            except Exception as error:  # the other things must be cleaned up too
                print(f"chaos: cleaning up: {error}", file=sys.stderr)
        for cluster in self.clusters:
            cluster.stop() if self.keep else cluster.remove()


def run_case(entry, options):
    row, fault, expected, pending, body = entry
    context = Context(options.bin, options.keep)
    began = time.monotonic()
    result, seen = "ok", ""
    try:
        seen = body(context) or ""
        context.judge()
    except SystemExit:  # stopped from outside: nothing of ours stays behind
        context.end()
        raise
    except Skip as reason:
        result, seen = "not here", str(reason)
    except Wrong as problem:
        result, seen = "FAILED", str(problem)
    except Exception as error:
        result, seen = "FAILED", f"{type(error).__name__}: {error}"
        traceback.print_exc()
    if result == "FAILED":
        for cluster in context.clusters:
            for member in cluster.members.values():
                tail = "\n".join(member.said().splitlines()[-6:])
                print(f"--- {member.name} ({member.state() if member.process else 'never started'})\n{tail}",
                      file=sys.stderr)
    context.end()
    if result == "FAILED" and pending:
        result, seen = "pending", f"{pending} ({seen})"
    elif pending and result == "ok":
        result, seen = "ok", f"{seen} (was pending: {pending})"
    return {"row": row, "fault": fault, "expected": expected, "result": result, "seen": seen,
            "seconds": round(time.monotonic() - began, 1)}


ELSEWHERE = [
    (31, "rolling upgrade, two releases side by side", "both work", "there is no earlier release yet"),
]

# What `--keys` repeats unless rows are named: faults that end connections, for a connection is a handshake then.
KEYED = "2 4 8b 12b 13 15 16 17 18 19 20 21 31b 35"


def table(rows):
    def cell(text):
        return str(text).replace("|", "\\|").replace("\n", " ")[:260]
    lines = ["| row | fault | must happen | result | seen | s |", "|---|---|---|---|---|---|"]
    for entry in sorted(rows, key=lambda entry: (int(re.match(r"\d+", str(entry["row"])).group()), str(entry["row"]))):
        lines.append("| " + " | ".join(
            cell(entry[name]) for name in ("row", "fault", "expected", "result", "seen", "seconds")) + " |")
    return "\n".join(lines)


def update_docs(text, name):
    path = os.path.join(ROOT, "docs", "reliability.md")
    with open(path) as file:
        page = file.read()
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = page.split(marks[0])
    after = rest.split(marks[1])[1]
    with open(path, "w") as file:
        file.write(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")


def main():
    scratch = os.environ.get("ZOETROPE_SCRATCH") or os.path.join(ROOT, ".build")
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=os.environ.get("ZOETROPE_BIN") or os.path.join(scratch, "release"))
    parser.add_argument("--only", default="", help="rows, such as \"1 8 14\" or \"1a\"")
    parser.add_argument("--keys", action="store_true", help="every cluster behind CURVE; some rows unless named")
    parser.add_argument("--update-docs", action="store_true")
    parser.add_argument("--results", help="file that keeps results between runs; the matrix shows the newest of each")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the clusters")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    import checker_test
    if checker_test.failures():
        sys.exit(f"chaos: the checker misjudges histories: {checker_test.failures()}")
    import cases_broker  # noqa: F401  (they register themselves)
    import cases_disk  # noqa: F401
    import cases_hostile  # noqa: F401
    import cases_keys  # noqa: F401
    import cases_network  # noqa: F401
    import cases_workers  # noqa: F401
    Cluster.keyed = options.keys
    wanted = options.only.split() or (KEYED.split() if options.keys else [])

    def is_wanted(row):
        return not wanted or str(row) in wanted or re.match(r"\d+", str(row)).group() in wanted

    results = {}
    if options.results and os.path.exists(options.results):
        with open(options.results) as file:
            results = {str(entry["row"]): entry for entry in json.load(file)}
    failed = 0
    for entry in sorted(CASES, key=lambda entry: (int(re.match(r"\d+", str(entry[0])).group()), str(entry[0]))):
        if not is_wanted(entry[0]):
            continue
        print(f"chaos: row {entry[0]}: {entry[1]} …", flush=True)
        result = run_case(entry, options)
        results[str(result["row"])] = result
        failed += result["result"] == "FAILED"
        print(f"chaos: row {entry[0]}: {result['result']}, {result['seconds']} s: {result['seen']}", flush=True)
        if options.results:
            with open(options.results, "w") as file:
                json.dump(list(results.values()), file, indent=1)
    for row, fault, expected, reason in [] if options.keys else ELSEWHERE:
        results[str(row)] = {"row": row, "fault": fault, "expected": expected, "result": "not here", "seen": reason,
                             "seconds": "–"}
    text = table(results.values())
    print("\n" + text)
    counts = {}
    for entry in results.values():
        counts[entry["result"]] = counts.get(entry["result"], 0) + 1
    print("\nchaos: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    if options.update_docs:
        update_docs(text, "chaos matrix with keys" if options.keys else "chaos matrix")
    return 1 if failed else 0


if __name__ == "__main__":
    # The cases import this file by its name; there must be one of it.
    sys.modules["chaos"] = sys.modules["__main__"]
    sys.exit(main())
