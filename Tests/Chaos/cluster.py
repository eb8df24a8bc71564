"""A cluster of the real executables, each a child of this process that a case may kill, freeze and start again."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from keys import Keys

STAGES = ["text-encoder", "denoiser", "vae-decoder", "video-muxer"]


class Wrong(Exception):
    """What a case saw is not what must happen."""


def free_port(host="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def wait(what, condition, timeout=60.0, pause=0.02):
    """Asks until `condition()` gives something true, and returns it. A machine that others use as well gets more time:
    what must be quick is measured by the cases themselves."""
    began = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        patience = timeout * min(5, max(1, os.getloadavg()[0] / os.cpu_count()))
        if time.monotonic() - began > patience:
            raise Wrong(f"{what} did not happen within {patience:.0f} s")
        time.sleep(pause)


class Member:
    """One process of the cluster."""

    def __init__(self, cluster, name, executable, arguments, prefix=()):
        self.cluster, self.name, self.prefix = cluster, name, list(prefix)
        self.line = [os.path.join(cluster.bin, executable), *arguments]
        self.log = os.path.join(cluster.folder, f"{name}.log")
        self.environment = {}
        self.before_exec = None
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.line], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self.environment}, preexec_fn=self.before_exec, start_new_session=True)
        return self

    @property
    def pid(self):
        """The executable's process: below `ip netns exec` it is the same one, for that execs."""
        return self.process.pid

    @property
    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.is_alive:
            os.kill(self.pid, number)

    def kill(self):
        """SIGKILL, and the corpse is taken away."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait(20)

    def freeze(self):
        self.signal(signal.SIGSTOP)
        wait(f"{self.name} stops", lambda: self.state() == "T", 5, 0.001)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def state(self):
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            return "gone"

    def rss(self):
        """Resident memory in bytes."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0

    def descriptors(self):
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return 0

    def said(self):
        try:
            with open(self.log, errors="replace") as file:
                return file.read()
        except OSError:
            return ""


class Cluster:
    """A broker, a gateway and workers in a folder of their own.

    `tcp=True` also lets the broker listen on TCP; workers added with a `broker` endpoint and a run directory of their
    own then have nothing but TCP to reach it. With `keys` every process is like that and has a key: all that they say
    to each other goes through CURVE.
    """

    keyed = False  # what clusters are unless they say

    def __init__(self, bin, lease=3.0, beat=250, workers=None, tcp=False, broker=(), start=True, data=None, keys=None):
        keyed = Cluster.keyed if keys is None else keys
        tcp = tcp or keyed
        self.bin = bin
        self.folder = tempfile.mkdtemp(prefix="zc-", dir="/tmp")
        self.data = data or os.path.join(self.folder, "data")
        self.run = os.path.join(self.folder, "run")
        self.lease, self.beat = lease, beat
        self.model = demo_model(bin)
        self.port = free_port()
        self.members = {}
        self.accepted = []  # every (job, key) that an answer has named
        self.lock = threading.Lock()
        self.control_port = free_port() if tcp else None
        self.data_port = free_port() if tcp else None
        arguments = ["--run-directory", self.run, "--data-directory", self.data, "--beat-milliseconds", str(beat),
                     "--lease-seconds", f"{lease:g}", *broker]
        if tcp:
            arguments += ["--listen", f"tcp://127.0.0.1:{self.control_port}", "--data-port", str(self.data_port)]
        self.keys = Keys(bin, os.path.join(self.folder, "keys")) if keyed else None
        if keyed:
            arguments += ["--key", self.keys.file("broker.key")]
            self.keys.make("gateway", "gateway")
        self.broker = self.add("broker", "zoetrope-broker", arguments)
        self.gateway = self.add(
            "gateway", "zoetrope-gateway",
            ["--listen", f"127.0.0.1:{self.port}", "--model", self.model, *self.reach("gateway")])
        for stage in STAGES:
            for number in range(1, (workers or {}).get(stage, 1) + 1):
                self.worker(stage, number)
        if start:
            self.start()

    def add(self, name, executable, arguments, prefix=()):
        self.members[name] = Member(self, name, executable, arguments, prefix)
        return self.members[name]

    @property
    def endpoint(self):
        """Where the broker listens on TCP."""
        return f"tcp://127.0.0.1:{self.control_port}"

    def reach(self, name, broker=None, run=None, key=None):
        """Options that lead a process to the broker; with keys over TCP only, for its run directory is its own."""
        if not self.keys:
            return ["--run-directory", run or self.run, *(("--broker", broker) if broker else ())]
        return ["--run-directory", run or os.path.join(self.folder, f"run-{name}"), "--broker", broker or self.endpoint,
                *self.keys.options(key or name)]

    def worker(self, stage, number=1, broker=None, run=None, extra=(), prefix=(), key=None):
        """Names a worker; `start` starts it. `key` = another's key instead of an authorised one of its own."""
        name = f"{stage}-{number}"
        if self.keys and not key:
            self.keys.make(name, "worker", stage)
        arguments = [*self.reach(name, broker, run, key), "--name", name, *extra]
        if stage != "video-muxer":
            arguments += ["--model", self.model, "--threads", "1"]
        return self.add(name, f"zoetrope-{stage}", arguments, prefix)

    def __getitem__(self, name):
        return self.members[name]

    def start(self):
        for member in self.members.values():
            if not member.is_alive:
                member.start()
        self.wait_ready()
        return self

    def wait_ready(self, timeout=60):
        def ready():
            for member in self.members.values():
                if member.process is not None and not member.is_alive:
                    raise Wrong(f"{member.name} ended: {member.said()[-800:]}")
            status, health = self.ask("GET", "/healthz", attempts=1, strict=False)
            return status == 200
        wait("the cluster is ready", ready, timeout, 0.05)

    def workers_of(self, stage):
        return [member for name, member in self.members.items() if name.startswith(stage + "-")]

    # HTTP

    def ask(self, method, path, body=None, headers=None, attempts=40, strict=True, timeout=30, raw=False):
        """One request, again while the gateway or the broker is away (and only then)."""
        problem = None
        given = dict(headers or {})
        if isinstance(body, (dict, list)):
            body, given["Content-Type"] = json.dumps(body), "application/json"
        for attempt in range(attempts):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            try:
                connection.request(method, path, body, given)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status in (502, 503, 504) and strict and attempt + 1 < attempts:
                    problem = content[:200]
                    time.sleep(0.25)
                    continue
                if raw:
                    return answer.status, content
                try:
                    return answer.status, json.loads(content)
                except ValueError:
                    return answer.status, content
            except (OSError, http.client.HTTPException) as error:
                problem = error
                if not strict and attempt + 1 >= attempts:
                    return 0, {"error": {"message": str(error)}}
                time.sleep(0.25)
            finally:
                connection.close()
        raise Wrong(f"{method} {path} is not answered: {problem}")

    def submit(self, key=None, **request):
        """Submits a request that must be accepted; with a key it may be sent again while nobody answers."""
        body = {**REQUEST, **request}
        headers = {"Idempotency-Key": key} if key else {}
        status, answer = self.ask("POST", "/v1/videos", body, headers)
        if status != 200:
            raise Wrong(f"a request was refused with {status}: {answer}")
        with self.lock:
            self.accepted.append((answer["id"], key))
        return answer["id"]

    def job(self, job):
        status, answer = self.ask("GET", f"/v1/videos/{job}")
        if status != 200:
            raise Wrong(f"{job} is answered with {status}: {answer}")
        return answer

    def task(self, job, stage):
        return next((task for task in self.job(job).get("x_stages", []) if task["stage"] == stage), None)

    def wait_for(self, job, condition, what, timeout=60, pause=0.01):
        def look():
            video = self.job(job)
            if condition(video):
                return video
            if video["status"] in ("completed", "failed"):
                raise Wrong(f"{what} did not happen before {job} was {video['status']}: {video.get('error')}")
            return None
        return wait(what, look, timeout, pause)

    def wait_held(self, job, stage, timeout=60, step=0):
        """Until a worker has the task and has reported `step`; gives the worker's name."""
        def held(video):
            task = next(task for task in video["x_stages"] if task["stage"] == stage)
            return task["state"] == "running" and task["step"] >= step
        video = self.wait_for(job, held, f"the {stage} reaches step {step}", timeout, 0.004)
        return next(task["worker"] for task in video["x_stages"] if task["stage"] == stage)

    def finish(self, job, timeout=120, expected="completed"):
        """Waits for the end of the job, which must be `expected`."""
        def ended():
            video = self.job(job)
            return video if video["status"] in ("completed", "failed") else None
        video = wait(f"the end of {job}", ended, timeout, 0.03)
        if video["status"] != expected:
            raise Wrong(f"{job} is {video['status']}: {video.get('error')}")
        return video

    # Ends

    def stop(self):
        for member in self.members.values():
            if member.is_alive:
                member.thaw()
                member.kill()

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


REQUEST = {"prompt": "the sun rising over green hills", "num_inference_steps": 10, "num_frames": 9, "seed": 7,
           "container": "mkv"}


def demo_model(bin):
    """The folder of the demo model beside the executables."""
    for root, folders, files in os.walk(bin):
        if "model_index.json" in files and "cogvideox-demo" in root:
            return root
        folders[:] = [name for name in folders if name.endswith(".resources") or "cogvideox" in name]
    raise SystemExit(f"chaos: no demo model below {bin}; run `make build`")
