"""Rows 1 to 7, 22, 23, 32 and 33: workers that die, freeze, hang, fail, come late."""

import json
import random
import signal
import struct
import time

import freeze
import history
import stranger
from chaos import Skip, case
from cluster import STAGES, Wrong, wait


def note_of_resume(cluster, job):
    notes = cluster.task(job, "denoiser")["notes"]
    return next((note for note in notes if note.startswith("Resumed after step")), None)


@case("1a", "denoiser kill -9 at 16 points of 250 steps", "another resumes from the checkpoint; latents bit-equal")
def denoiser_killed(context):
    # Steps are reported with the beats: these come often enough to meet every sixteenth of the render.
    cluster = context.cluster(workers={"denoiser": 2}, lease=1.5, beat=50)
    resumed, late, leased, went = 0, 0, [], []
    while len(went) < 16:
        job = context.submit(cluster, "longer")
        at = step_reached(cluster, job, 1 + len(went) * 13)
        if at["state"] == "done":  # this machine was elsewhere while the render ended; another one will be hit
            late += 1
            if late > 16:
                raise Wrong(f"{late} renders were over before they could be killed")
            continue
        holder, killed = at["worker"], time.monotonic()
        cluster[holder].kill()
        wait("another denoiser has the task", lambda: taken_over(cluster, job, holder), 30, 0.005)
        leased.append(time.monotonic() - killed)
        wait("the render goes on", lambda: taken_over(cluster, job, holder, at["step"]), 60, 0.005)
        went.append(time.monotonic() - killed)
        cluster[holder].start()
        cluster.finish(job)
        resumed += note_of_resume(cluster, job) is not None
        cluster.wait_ready()
        wait("both denoisers serve", lambda: cluster.ask("GET", "/healthz")[1]["stages"]["denoiser"]["workers"] == 2)
    if resumed < 12:
        raise Wrong(f"only {resumed} of 16 went on from a checkpoint")
    return (f"16 kills, {resumed} resumed from a checkpoint; kill to next lease {min(leased):.1f} to {max(leased):.1f} "
            f"s with a lease of 1.5 s, to the first new step median {sorted(went)[8]:.1f}, worst {max(went):.1f} s")


def step_reached(cluster, job, step):
    """The denoiser's task once it has reported the step, or is done."""
    def reached():
        task = cluster.task(job, "denoiser")
        return task if task["step"] >= step and task["worker"] or task["state"] == "done" else None
    return wait(f"step {step}", reached, 60, 0.002)


def taken_over(cluster, job, holder, step=-1):
    """Whether another worker than `holder` has the task and is beyond the step."""
    task = cluster.task(job, "denoiser")
    return task["worker"] not in ("", holder) and (task["state"] == "done" or task["step"] > step)


@case("1b", "text encoder, decoder, muxer kill -9 while they hold the job", "another takes over; frames equal")
def every_stage_killed(context):
    cluster = context.cluster(lease=1.5)
    for stage in STAGES:
        victim = cluster[f"{stage}-1"]
        victim.freeze()  # it certainly holds the lease when it dies, however quick its stage is
        job = context.submit(cluster, "short")
        cluster.wait_held(job, stage)
        victim.kill()
        victim.start()
        cluster.finish(job)
        if cluster.task(job, stage)["attempt"] < 2:
            raise Wrong(f"the {stage} did not hold the job")
    return "one death of each stage, same frames"


@case(2, "denoiser SIGSTOP for 3 leases, then CONT", "late results refused, one effect")
def frozen(context):
    cluster = context.cluster(workers={"denoiser": 2}, lease=1.5)
    refused = 0
    for step in (1, 30, 60):
        job = context.submit(cluster, "long")
        holder = cluster.wait_held(job, "denoiser", step=step)
        cluster[holder].freeze()
        # It comes back while the other one is still at work, or after everything.
        time.sleep(2.0 if step == 30 else 4.5)
        cluster[holder].thaw()
        cluster.finish(job)
        wait("the frozen denoiser serves again", lambda: cluster.ask("GET", "/healthz")[1]["stages"]["denoiser"][
            "workers"] == 2, 30)
        refused += cluster.task(job, "denoiser")["attempt"] >= 2
    return f"3 freezes, {refused} leases moved on, nothing of the late worker was taken"


@case(3, "the thread that computes hangs, the bus thread beats on",
      "revoked by the watchdog after 30 s and a bit, another goes on")
def hung(context):
    if not freeze.is_possible():
        raise Skip("stopping single threads needs ptrace")
    cluster = context.cluster(workers={"denoiser": 2}, lease=5, broker=("--stall-seconds", "30"))
    job = context.submit(cluster, "longer")
    holder = cluster.wait_held(job, "denoiser", step=10)
    stopped = freeze.busiest(cluster[holder].pid)
    context.later(stopped.release)
    began = time.monotonic()
    cluster.wait_for(job, lambda video: any(
        task["stage"] == "denoiser" and task["worker"] not in ("", holder) for task in video["x_stages"]),
        "another denoiser has the task", 90, 0.2)
    seconds = time.monotonic() - began
    reasons = history.check(cluster, unfinished_allowed=True).reasons
    stopped.release()
    cluster.finish(job)
    if "stalled" not in reasons:
        raise Wrong(f"the lease ended after {seconds:.1f} s, but not as stalled: {reasons}")
    return f"taken away after {seconds:.0f} s as stalled, the hung process beat on"


@case(4, "decoder dies after COMPLETE was sent, before COMMITTED came", "DONE once; its frames are made again")
def dead_after_complete(context):
    cluster = context.cluster(lease=2)
    for pause in (0.4, 1.5):
        job = context.submit(cluster, "film")
        cluster.wait_held(job, "vae-decoder")
        time.sleep(0.25)  # inputs are fetched; from here on it needs nobody
        cluster.broker.freeze()
        time.sleep(pause)
        cluster["vae-decoder-1"].kill()
        cluster.broker.thaw()
        cluster["vae-decoder-1"].start()
        cluster.finish(job)
    return "killed while its answer lay in the frozen broker's socket; same frames"


@case(6, "a job kills every worker that takes it", "DEAD after 3 crashes; other jobs do not notice")
def poison(context):
    cluster = context.cluster(workers={"denoiser": 2}, lease=1)
    poisoned = cluster.submit(num_inference_steps=100)
    others = []
    deaths = 0
    seen = set()
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        video = cluster.job(poisoned)
        if video["status"] in ("completed", "failed"):
            break
        task = next(task for task in video["x_stages"] if task["stage"] == "denoiser")
        lease = (task["attempt"], task["worker"])
        if task["state"] == "running" and lease not in seen and task["worker"].split(" ")[0] in cluster.members:
            seen.add(lease)
            member = cluster[task["worker"].split(" ")[0]]
            member.kill()
            deaths += 1
            others.append(context.submit(cluster, "short"))
            member.start()
        time.sleep(0.01)
    video = cluster.finish(poisoned, 10, expected="failed")
    for job in others:
        cluster.finish(job)
    if video["error"]["code"] != "worker_lost" or deaths > 4:
        raise Wrong(f"{deaths} deaths, then {video['error']}")
    return f"{video['error']['code']} after {deaths} deaths, {len(others)} other jobs completed"


@case(7, "a job that fails whoever computes it", "1 attempt, FAILED with its reason")
def deterministic_failure(context):
    cluster = context.cluster()
    healthy = cluster.submit(output_type="latent")
    cluster.finish(healthy)
    status, file = cluster.ask("GET", f"/v1/videos/{healthy}/tensors/denoise.latents", raw=True)
    size = struct.unpack("<Q", file[:8])[0]
    count = (len(file) - 8 - size) // 4
    header = json.loads(file[8:8 + size])
    shape = next(value["shape"] for key, value in header.items() if key != "__metadata__")
    entry = {"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, count * 4]}}
    text = json.dumps(entry).encode()
    noise = struct.pack("<Q", len(text)) + text + struct.pack("<f", 3e38) * count
    status, stored = cluster.ask("POST", "/v1/tensors", noise, {"Content-Type": "application/octet-stream"})
    if status != 200:
        raise Wrong(f"the noise was refused: {stored}")
    job = cluster.submit(init_latents=stored["id"])
    video = cluster.finish(job, expected="failed")
    attempts = cluster.task(job, "denoiser")["attempt"]
    if attempts != 1 or video["error"]["code"] != "numeric_fault":
        raise Wrong(f"{attempts} attempts, {video['error']}")
    return f"numeric_fault after {attempts} attempt"


@case(22, "consumer SIGSTOP while frames stream to it", "the sender's memory stays within its window; others go on")
def slow_consumer(context):
    cluster = context.cluster(workers={"video-muxer": 2}, lease=70)
    cluster.finish(context.submit(cluster, "film"))
    before = cluster["vae-decoder-1"].rss()
    cluster["video-muxer-1"].freeze()
    jobs = [context.submit(cluster, "film") for _ in range(2)]
    peak = before
    end = time.monotonic() + 60
    while time.monotonic() < end and sum(cluster.job(job)["status"] == "completed" for job in jobs) < 1:
        peak = max(peak, cluster["vae-decoder-1"].rss())
        time.sleep(0.05)
    done = sum(cluster.job(job)["status"] == "completed" for job in jobs)
    cluster["video-muxer-1"].thaw()
    for job in jobs:
        cluster.finish(job)
    if done < 1:
        raise Wrong("the job of the other muxer waited too")
    if peak - before > 64 << 20:
        raise Wrong(f"the decoder grew by {(peak - before) >> 20} MiB")
    return f"the other job completed meanwhile, the decoder grew by {max(0, peak - before) >> 20} MiB"


@case("22b", "24 raw peers ask for 32 MB each and never read", "the sender's memory stays within its budget")
def deaf_peers(context):
    cluster = context.cluster()
    count = 8 << 20
    header = json.dumps({"x": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    status, stored = cluster.ask(
        "POST", "/v1/tensors", struct.pack("<Q", len(header)) + header + bytes(4 * count),
        {"Content-Type": "application/octet-stream"})
    if status != 200:
        raise Wrong(f"the tensor was refused: {stored}")
    before, peak, peers = cluster.broker.rss(), 0, []
    for _ in range(24):
        peer = stranger.Peer(f"{cluster.run}/broker-data.sock")
        context.later(peer.close)
        body = (stranger.data(1, bytes.fromhex(stored["id"])) + stranger.number(3, 4 * count)
                + stranger.number(4, 64 << 20))
        peer.send(stranger.frame(stranger.GET, body, stranger.session()))
        peers.append(peer)
    for _ in range(60):
        peak = max(peak, cluster.broker.rss() - before)
        time.sleep(0.05)
    began = time.monotonic()
    cluster.finish(context.submit(cluster, "short"))
    took = time.monotonic() - began
    if took > 30:
        raise Wrong(f"a job beside them took {took:.0f} s")
    if peak > 400 << 20:
        raise Wrong(f"the broker grew by {peak >> 20} MiB")
    return (f"24 × 32 MB wanted, the broker grew by {peak >> 20} MiB (its budget is 256 MiB); a job beside "
            f"them took {took:.0f} s")


@case(23, "every start order; workers that come after the jobs", "work at the first beat; nothing is lost")
def start_orders(context):
    shuffle = random.Random(23)
    took = []
    for number in range(4):
        cluster = context.cluster(start=False)
        order = list(cluster.members.values())
        shuffle.shuffle(order)
        if number == 0:
            order.sort(key=lambda member: member.name == "broker")  # everybody waits for the broker
        for member in order:
            member.start()
            time.sleep(shuffle.random() * 0.3)
        history.record(cluster)
        began = time.monotonic()
        cluster.wait_ready()
        took.append(time.monotonic() - began)
        cluster.finish(context.submit(cluster, "short"))
    late = context.cluster(start=False)
    for name in ("broker", "gateway"):
        late[name].start()
    history.record(late)
    jobs = [context.submit(late, "short") for _ in range(3)]
    for stage in reversed(STAGES):
        late[f"{stage}-1"].start()
    for job in jobs:
        late.finish(job)
    return f"4 orders, ready {max(took):.1f} s after the last start; 3 jobs waited for their workers"


@case("31b", "a deploy: every worker is replaced by SIGTERM while renders run", "nothing lost, no attempt spent")
def deploy(context):
    cluster = context.cluster(lease=5, workers={"denoiser": 2, "vae-decoder": 2})
    jobs = []
    for stage in STAGES + ["denoiser"]:
        for member in cluster.workers_of(stage):
            jobs.append(context.submit(cluster, "long"))
            cluster.wait_held(jobs[-1], "denoiser", step=1)
            member.signal(signal.SIGTERM)
            wait(f"{member.name} has left", lambda: not member.is_alive, 30)
            if member.process.returncode not in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
                raise Wrong(f"{member.name} left with {member.process.returncode}")
            member.start()
    for job in jobs:
        cluster.finish(job, 240)
    reasons = history.check(cluster).reasons
    spent = {reason: count for reason, count in reasons.items() if reason in ("expired", "failed", "stalled")}
    if spent:
        raise Wrong(f"leases that cost something ended: {reasons}")
    return f"{len(jobs)} renders through {len(jobs)} replacements; leases handed back: {reasons or 'none'}"


@case(32, "decoder kill -9 at three moments of a decode", "decoded again; frames equal")
def decoder_killed(context):
    cluster = context.cluster(lease=1.5)
    for pause in (0.1, 0.4, 0.8):
        job = context.submit(cluster, "film")
        cluster.wait_held(job, "vae-decoder")
        time.sleep(pause)
        cluster["vae-decoder-1"].kill()
        cluster["vae-decoder-1"].start()
        cluster.finish(job)
    return "3 deaths, same frames"


@case(33, "muxer kill -9 while it writes", "muxed again from frames; one file, equal")
def muxer_killed(context):
    cluster = context.cluster(lease=1.5)
    for pause in (0.0, 0.1, 0.25):
        job = context.submit(cluster, "film")
        cluster.wait_held(job, "video-muxer")
        time.sleep(pause)
        cluster["video-muxer-1"].kill()
        cluster["video-muxer-1"].start()
        cluster.finish(job)
        history.check_video(cluster, job, context.reference("film"))
    return "3 deaths, same file"
