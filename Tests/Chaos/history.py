"""Judges a run from outside: the ledger's entries, the clients' answers and the digests of an undisturbed run.

The broker moves its journal into a snapshot now and then, so a trigger of ours copies every entry into a table of ours
in the same transaction. What the checker reads is therefore exactly what was committed, in order.
"""

import hashlib
import json
import os
import sqlite3

from cluster import Wrong, wait

TRIGGER = """
CREATE TABLE IF NOT EXISTS chaos_history (n INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER, kind TEXT, body TEXT);
CREATE TRIGGER IF NOT EXISTS chaos_copy AFTER INSERT ON journal BEGIN
    INSERT INTO chaos_history (epoch, kind, body) VALUES (NEW.epoch, NEW.kind, NEW.body);
END;
"""


def path_of(cluster):
    return os.path.join(cluster.data, "ledger.sqlite")


def record(cluster):
    """Begins to record; before the first job."""
    def is_installed():
        if not os.path.exists(path_of(cluster)):
            return False
        database = sqlite3.connect(path_of(cluster), timeout=20)
        try:
            database.executescript(TRIGGER)
            return True
        except sqlite3.OperationalError:
            return False  # the broker has not made its tables yet
        finally:
            database.close()
    wait("the ledger is there", is_installed, 20)


def entries(cluster):
    """[(epoch, kind, fields)] in the order of their commits."""
    database = sqlite3.connect(f"file:{path_of(cluster)}?mode=ro", uri=True, timeout=20)
    try:
        rows = database.execute("SELECT epoch, kind, body FROM chaos_history ORDER BY n").fetchall()
    finally:
        database.close()
    return [(epoch, kind, fields_of(body)) for epoch, kind, body in rows]


def count(cluster, kind, task):
    """How many entries of a kind a task of this name has, without reading them all."""
    database = sqlite3.connect(f"file:{path_of(cluster)}?mode=ro", uri=True, timeout=20)
    try:
        return database.execute("SELECT count(*) FROM chaos_history WHERE kind = ? AND body LIKE ?",
                                (kind, f'%"name":"{task}"%')).fetchone()[0]
    finally:
        database.close()


def drain(cluster):
    """As `entries`, and they are forgotten there: for runs so long that our copy would look like a growing disk."""
    database = sqlite3.connect(path_of(cluster), timeout=20, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        rows = database.execute("SELECT epoch, kind, body FROM chaos_history ORDER BY n").fetchall()
        database.execute("DELETE FROM chaos_history")
        database.execute("COMMIT")
    finally:
        database.close()
    return [(epoch, kind, fields_of(body)) for epoch, kind, body in rows]


def fields_of(body):
    value = next(iter(json.loads(body).values()))
    return value["_0"] if isinstance(value, dict) and set(value) == {"_0"} else value


def outputs_of(fields):
    return {output["name"]: output["ref"]["digest"] for output in fields["outputs"]}


class Task:
    def __init__(self):
        self.fence, self.state, self.step, self.done, self.leases = 0, "open", 0, 0, 0
        self.outputs, self.file = {}, None


class Run:
    """The fold of a history, made without any of the broker's code, with every violation in `problems`."""

    def __init__(self, rows):
        self.jobs, self.ended, self.keys, self.tasks, self.problems = {}, {}, {}, {}, []
        self.kinds, self.reasons = {}, {}
        self.last_fence = 0
        self.last_epoch = 0
        for epoch, kind, fields in rows:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if epoch < self.last_epoch:
                self.problems.append(f"epoch {epoch} wrote after epoch {self.last_epoch}")
            self.last_epoch = max(self.last_epoch, epoch)
            getattr(self, kind, lambda fields: None)(fields)

    def wrong(self, text):
        self.problems.append(text)

    def job_accepted(self, fields):
        job, key = fields["job"], fields["key"]["key"]
        if job in self.jobs:
            self.wrong(f"{job} was accepted twice")
        if key and key in self.keys:
            self.wrong(f"the key {key} made {self.keys[key]} and {job}")
        self.jobs[job] = [task["name"] for task in fields["tasks"]]
        if key:
            self.keys[key] = job

    def task(self, fields, what):
        """The task of a lease; the fence must be the current one and the task leased."""
        name, fence = (fields["lease"]["task"]["job"], fields["lease"]["task"]["name"]), fields["lease"]["fence"]
        task = self.tasks.setdefault(name, Task())
        if name[0] in self.ended:
            self.wrong(f"{what} of {name} after its job ended")
        if task.fence != fence or task.state != "leased":
            self.wrong(f"{what} of {name} with fence {fence}, the task is {task.state} with fence {task.fence}")
        return task

    def lease_granted(self, fields):
        name, fence = (fields["lease"]["task"]["job"], fields["lease"]["task"]["name"]), fields["lease"]["fence"]
        task = self.tasks.setdefault(name, Task())
        if fence <= self.last_fence:
            self.wrong(f"fence {fence} of {name} follows fence {self.last_fence}")
        self.last_fence = max(self.last_fence, fence)
        if task.state != "open" or name[0] not in self.jobs or name[0] in self.ended:
            self.wrong(f"{name} was leased while {task.state}")
        task.state, task.fence = "leased", fence
        task.leases += 1

    def checkpoint_committed(self, fields):
        task = self.task(fields, "a checkpoint")
        if fields["step"] <= task.step:
            self.wrong(f"checkpoint {fields['step']} follows {task.step}")
        task.step = max(task.step, fields["step"])

    def task_completed(self, fields):
        task = self.task(fields, "a result")
        task.state = "done"
        task.done += 1
        outputs = outputs_of(fields)
        # A container carries an identity of its own; what is in it is judged by the frames.
        task.file = outputs.pop("video", None)
        if task.outputs and outputs != task.outputs:
            self.wrong(f"made again, {fields['lease']['task']} is {outputs} instead of {task.outputs}")
        task.outputs = outputs
        job = fields["lease"]["task"]["job"]
        if all(self.tasks.get((job, name), Task()).state == "done" for name in self.jobs.get(job, ["?"])):
            self.end(job, "completed")

    def lease_ended(self, fields):
        self.task(fields, "an end").state = "open"
        self.reasons[fields["reason"]] = self.reasons.get(fields["reason"], 0) + 1

    def outputs_lost(self, fields):
        for name in fields["producers"]:
            task = self.tasks[(fields["job"], name)]
            task.state, task.step = "open", 0  # from the beginning
        if fields.get("consumer"):
            consumer = fields["consumer"]
            self.tasks[(consumer["task"]["job"], consumer["task"]["name"])].state = "open"

    def job_ended(self, fields):
        self.end(fields["job"], "failed")

    def end(self, job, how):
        if job in self.ended:
            self.wrong(f"{job} ended as {self.ended[job]} and as {how}")
        self.ended[job] = how

    def outputs(self, job):
        """{task: {output: digest}} of a job."""
        return {name: task.outputs for (owner, name), task in self.tasks.items() if owner == job}


def check(cluster, reference=None, unfinished_allowed=False):
    """Raises `Wrong` with every violation; gives the run otherwise.

    `reference` = digests of the undisturbed run that every completed job of the same request must equal: pairs of
    (jobs, digests)."""
    run = Run(entries(cluster))
    problems = list(run.problems)
    for job, key in cluster.accepted:
        if job not in run.jobs:
            problems.append(f"{job} was accepted and is not in the ledger")
        elif key and run.keys.get(key) != job:
            problems.append(f"the key {key} was answered with {job}, the ledger says {run.keys.get(key)}")
    if not unfinished_allowed:
        problems += [f"{job} never ended" for job in run.jobs if job not in run.ended]
    for jobs, digests in reference or []:
        for job in jobs:
            if run.ended.get(job) == "completed" and run.outputs(job) != digests:
                problems.append(f"{job} made {run.outputs(job)} instead of {digests}")
    if problems:
        raise Wrong(f"{len(problems)} violations: " + "; ".join(problems[:4]))
    return run


def check_video(cluster, job, digests=None):
    """The file that a client downloads is the one in the ledger; it was made from the frames of the undisturbed run."""
    run = Run(entries(cluster))
    expected = run.tasks[(job, "mux")].file
    status, content = cluster.ask("GET", f"/v1/videos/{job}/content", raw=True)
    if status != 200:
        raise Wrong(f"the video of {job} is answered with {status}: {content[:200]}")
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise Wrong(f"the video of {job} is {found}, the ledger says {expected}")
    if digests and run.outputs(job) != digests:
        raise Wrong(f"{job} made {run.outputs(job)} instead of {digests}")
