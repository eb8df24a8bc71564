"""Rows 5, 9, 10, 11 and 12: what lies on the disk, or should."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time

import history
from chaos import HERE, Skip, case
from cluster import REQUEST, Wrong, wait


def blobs(cluster):
    return {name for _, _, names in os.walk(os.path.join(cluster.data, "blobs")) for name in names if len(name) == 64}


@case(5, "worker dies when its result is stored and not yet reported", "the blob is garbage; done again or resumed")
def dead_after_stored(context):
    cluster = context.cluster(lease=2)
    hits = 0
    for stage in ("video-muxer", "text-encoder", "denoiser", "video-muxer"):
        cluster[f"{stage}-1"].freeze()
        # A prompt of its own, so that its blobs are new.
        job = cluster.submit(prompt=f"a cat, take {hits}", num_inference_steps=4)
        cluster.wait_held(job, stage)
        before = blobs(cluster)
        cluster[f"{stage}-1"].thaw()
        wait("a blob is stored", lambda: blobs(cluster) - before, 30, 0.0002)
        cluster.broker.freeze()  # STORED may be on its way; COMPLETE will find nobody
        time.sleep(0.05)
        cluster[f"{stage}-1"].kill()
        cluster.broker.thaw()
        cluster[f"{stage}-1"].start()
        cluster.finish(job)
        hits += 1
        history.check_video(cluster, job)
    again = sum(cluster.job(job)["x_stages"][0]["attempt"] > 0 for job, _ in cluster.accepted)
    return f"{hits} deaths within milliseconds of the rename; {again} jobs completed"


@case(9, "power loss of the broker's machine, 12 times under load", "nothing acknowledged is lost, nothing doubled")
def power_loss(context):
    cluster = context.cluster(start=False, lease=6)
    library, disk = os.path.join(cluster.folder, "disk.so"), os.path.join(cluster.folder, "disk")
    os.makedirs(disk)
    if subprocess.run(["clang", "-O1", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "powerloss.c"), "-ldl"],
                      capture_output=True).returncode:
        raise Skip("clang is needed for the shim of the disk")
    cluster.broker.environment = {"LD_PRELOAD": library, "CHAOS_DISK": disk}
    cluster.start()
    # Our own table must be flushed by the broker too, so it is made before the first job and then never written by us.
    history.record(cluster)
    chance, stop, problems, keys = random.Random(9), threading.Event(), [], iter(range(10 ** 9))

    def client():
        while not stop.is_set():
            try:
                context.submit(cluster, "short", f"power-{next(keys)}")
            except Exception as problem:
                problems.append(problem)
            stop.wait(0.6)
    thread = threading.Thread(target=client)
    thread.start()
    time.sleep(2)
    forgotten = files = 0
    for _ in range(12):
        time.sleep(chance.random() * 1.5)
        cluster.broker.kill()
        for root, _, names in os.walk(cluster.data):
            for name in names:
                lost = revert(os.path.join(root, name), disk)
                forgotten += lost
                files += lost > 0
        cluster.broker.start()
        wait("the broker answers", lambda: cluster.ask("GET", "/v1/videos?limit=1", strict=False)[0] == 200, 30)
    stop.set()
    thread.join()
    if problems:
        raise Wrong(f"{len(problems)} submissions failed: {problems[0]}")
    for job, _ in cluster.accepted:
        cluster.finish(job, 240)
    return f"{len(cluster.accepted)} jobs completed; {forgotten} bytes of {files} files had not been flushed, so lost"


def revert(path, disk):
    """Gives the file the bytes of its last flush; how many bytes differ."""
    if path.endswith("-shm"):
        os.remove(path)  # SQLite's index of its WAL, made anew
        return 0
    kept = os.path.join(disk, str(os.stat(path).st_ino))
    with open(path, "rb") as file:
        now = file.read()
    then = b""
    if os.path.exists(kept):
        with open(kept, "rb") as file:
            then = file.read()
    if then == now:
        return 0
    with open(path, "r+b") as file:  # in place: the inode stays
        file.write(then)
        file.truncate(len(then))
    return sum(a != b for a, b in zip(then, now)) + abs(len(then) - len(now))


@case(10, "disk full under the ledger and the store", "SUBMIT refused with ledger_full, reads served, recovers")
def disk_full(context):
    folder = f"/tmp/zc-full-{os.getpid()}"
    os.makedirs(folder, exist_ok=True)
    context.later(lambda: shutil.rmtree(folder, ignore_errors=True))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", folder], capture_output=True).returncode:
        raise Skip("a small tmpfs needs root")
    context.later(lambda: subprocess.run(["umount", "-l", folder]))
    cluster = context.cluster(data=os.path.join(folder, "data"), lease=5)
    before = context.submit(cluster, "short")
    cluster.finish(before)
    running = context.submit(cluster, "long")
    cluster.wait_held(running, "denoiser", step=5)
    filler = os.path.join(folder, "filler")
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    refused = None
    for number in range(200):
        status, answer = cluster.ask("POST", "/v1/videos", {"prompt": "x" * 4000, "seed": number}, attempts=1,
                                     strict=False)
        if status == 200:
            cluster.accepted.append((answer["id"], None))
            continue
        refused = status, answer["error"]["code"]
        break
    if refused not in ((503, "ledger_full"), (503, "store_full")):
        raise Wrong(f"a full disk is answered with {refused}")
    if cluster.job(before)["status"] != "completed":
        raise Wrong("a read-only broker does not answer")
    time.sleep(1)
    os.remove(filler)
    wait("the broker takes jobs again", lambda: cluster.ask("POST", "/v1/videos", {
        **REQUEST, "prompt": "after"},
        {"Idempotency-Key": "after"}, attempts=1, strict=False)[0] == 200, 30, 0.2)
    for job, _ in cluster.accepted:
        video = cluster.job(job)
        if video["status"] not in ("completed", "failed"):
            cluster.ask("DELETE", f"/v1/videos/{job}") if job not in (before, running) else None
    cluster.finish(running)
    status, answer = cluster.ask("POST", "/v1/videos", {
        **REQUEST, "prompt": "after"}, {"Idempotency-Key": "after"})
    cluster.finish(answer["id"])
    for job, _ in cluster.accepted:
        wait(f"{job} ends", lambda: cluster.job(job)["status"] in ("completed", "failed"), 60)
    return f"refused with {refused[1]}; after room was made everything went on"


@case(11, "bytes of the ledger flipped while the broker is down", "refuses to serve, says so; a backup restores it")
def ledger_damaged(context):
    cluster = context.cluster()
    job = context.submit(cluster, "short")
    cluster.finish(job)
    cluster.broker.signal(signal.SIGTERM)
    wait("the broker has stopped", lambda: not cluster.broker.is_alive, 20)
    backup = cluster.data + ".backup"
    shutil.copytree(cluster.data, backup)
    path = history.path_of(cluster)
    size = os.path.getsize(path)
    chance = random.Random(11)
    noticed = served = 0
    heard = len(cluster.broker.said())
    with open(path, "rb") as file:
        content = file.read()
    body = content.find(b'"jobAccepted"')
    places = [16, 100, body + 40, body + 200] + [chance.randrange(100, size) for _ in range(8)]
    for place in places:
        with open(path, "r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 0x21]))
        cluster.broker.start()
        end = time.monotonic() + 8
        ready = False
        while time.monotonic() < end and cluster.broker.is_alive and not ready:
            ready = '"event":"ready"' in cluster.broker.said()[heard:]
            time.sleep(0.05)
        words = cluster.broker.said()[heard:]
        heard += len(words)
        if ready:
            # A page that is not in use may change; what is served must be what was.
            served += 1
            video = cluster.job(job)
            if video["status"] != "completed":
                raise Wrong(f"byte {place} changed the job to {video['status']}")
        elif "ledger_corrupt" in words or "ledger_unwritable" in words:
            noticed += 1
        else:
            raise Wrong(f"byte {place}: the broker said {words[-300:]}")
        cluster.broker.kill()
        shutil.rmtree(cluster.data)
        shutil.copytree(backup, cluster.data)
    if noticed < 3:
        raise Wrong(f"only {noticed} of {len(places)} damages were noticed")
    cluster.broker.start()
    cluster.wait_ready()
    history.check_video(cluster, job, context.reference("short"))
    return (f"{noticed} of {len(places)} damages refused with ledger_corrupt, {served} hit bytes that nothing reads; the "
            "backup serves")


def harm(cluster, digest, damage):
    """Damages a stored blob as a disk would."""
    path = os.path.join(cluster.data, "blobs", "blobs", digest[:2], digest)
    if not os.path.exists(path):
        path = os.path.join(cluster.data, "blobs", digest[:2], digest)
    if damage == "flip":
        with open(path, "r+b") as file:
            file.seek(1000)
            byte = file.read(1)[0]
            file.seek(1000)
            file.write(bytes([byte ^ 4]))
    elif damage == "truncate":
        os.truncate(path, 500)
    else:
        os.remove(path)


def checkpoints(cluster, job):
    """[(step, digest)] of the job's committed checkpoints."""
    return [(fields["step"], fields["ref"]["digest"]) for _, kind, fields in history.entries(cluster)
            if kind == "checkpoint_committed" and fields["lease"]["task"]["job"] == job]


@case(12, "stored latents flipped and truncated before they are read", "digest mismatch, made again, never used")
def blob_damaged(context):
    cluster = context.cluster(lease=2)
    digests = context.reference("short")
    latents = digests["denoise"]["latents"]
    again = 0
    for damage in ("flip", "truncate", "remove"):
        decoder = cluster["vae-decoder-1"]
        decoder.freeze()
        job = context.submit(cluster, "short")
        cluster.wait_held(job, "vae-decoder")
        harm(cluster, latents, damage)
        decoder.thaw()
        cluster.finish(job)
        again += cluster.task(job, "denoiser")["attempt"] > 1
        history.check_video(cluster, job, digests)
        cluster.ask("DELETE", f"/v1/videos/{job}")
    return f"3 damages, {again} times the latents were made again, same video"


@case("12c", "the newest checkpoint flipped, truncated and removed while its worker dies",
      "resumed from the checkpoint before it; latents bit-equal")
def newest_checkpoint_damaged(context):
    cluster = context.cluster(workers={"denoiser": 2}, lease=1.5)
    context.reference("long")
    seen = []
    for damage in ("flip", "truncate", "remove"):
        job = context.submit(cluster, "long")
        holder = cluster.wait_held(job, "denoiser", step=20)
        wait("two checkpoints are committed", lambda: len(checkpoints(cluster, job)) >= 2, 30, 0.005)
        cluster[holder].freeze()
        time.sleep(0.3)  # what was on its way to the broker arrives
        (earlier, _), (newest, digest) = checkpoints(cluster, job)[-2:]
        harm(cluster, digest, damage)
        cluster[holder].kill()
        cluster[holder].start()
        cluster.finish(job)
        notes = cluster.task(job, "denoiser")["notes"]
        if not any(note.startswith(f"The checkpoint after step {newest} could not be used") for note in notes):
            raise Wrong(f"nobody noticed the damage: {notes}")
        if f"Resumed after step {earlier}." not in notes:
            raise Wrong(f"it did not go on from step {earlier}: {notes}")
        seen.append(f"{damage}: {newest} → {earlier}")
        cluster.wait_ready()
    return "; ".join(seen) + "; same latents"
