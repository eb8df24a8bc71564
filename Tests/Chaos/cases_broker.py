"""Rows 8, 13, 14, 24, 30, 34 to 36: the broker, the gateway, clients in a hurry."""

import http.client
import json
import os
import random
import shutil
import subprocess
import threading
import time

import history
import stranger
from chaos import HERE, KINDS, Skip, case
from cluster import REQUEST, Wrong, wait

CYCLES = int(os.environ.get("CHAOS_CYCLES", "40"))


@case(8, f"broker kill -9, {CYCLES} times at random moments under load",
      "no accepted job lost or doubled; renders go on")
def broker_loop(context):
    cluster = context.cluster(lease=6, workers={"denoiser": 2})
    chance = random.Random(8)
    stop = threading.Event()
    problems, keys = [], iter(range(10 ** 9))

    def client():
        while not stop.is_set():
            key = f"loop-{next(keys)}"
            try:
                context.submit(cluster, "short", key)
            except Exception as problem:
                problems.append(problem)
            stop.wait(0.4)
    thread = threading.Thread(target=client)
    thread.start()
    downs = []
    for _ in range(CYCLES):
        time.sleep(chance.random() * 0.9)
        cluster.broker.kill()
        began = time.monotonic()
        cluster.broker.start()
        wait("the broker answers", lambda: cluster.ask("GET", "/v1/videos?limit=1", strict=False)[0] == 200, 30)
        downs.append(time.monotonic() - began)
    stop.set()
    thread.join()
    if problems:
        raise Wrong(f"{len(problems)} submissions failed: {problems[0]}")
    for job, _ in cluster.accepted:
        cluster.finish(job, 240)
    run = history.check(cluster)
    downs.sort()
    return (f"{CYCLES} kills, {len(cluster.accepted)} jobs completed, start to answer median "
            f"{downs[len(downs) // 2]:.2f} s, worst {downs[-1]:.2f} s; {run.reasons.get('expired', 0)} leases expired")


@case("8b", "broker kill -9 in the middle of a long render", "the render runs on: same lease, no step repeated")
def render_survives(context):
    cluster = context.cluster(lease=5, workers={"denoiser": 1})
    job = context.submit(cluster, "long")
    cluster.wait_held(job, "denoiser", step=15)
    for _ in range(3):
        cluster.broker.kill()
        cluster.broker.start()
        time.sleep(0.6)
    cluster.finish(job)
    task = cluster.task(job, "denoiser")
    if task["attempt"] != 1:
        raise Wrong(f"the render needed {task['attempt']} attempts")
    return "3 restarts of the broker, 1 lease"


@case(13, "gateway kill -9 with jobs under way and requests open", "jobs go on; the same key finds the same job")
def gateway_killed(context):
    cluster = context.cluster()
    for number in range(3):
        job = context.submit(cluster, "long", f"gate-{number}")
        cluster.wait_held(job, "denoiser", step=5)
        cluster.gateway.kill()
        cluster.gateway.start()
        again = context.submit(cluster, "long", f"gate-{number}")
        if again != job:
            raise Wrong(f"the key gate-{number} made {job} and {again}")
        cluster.finish(job)
        history.check_video(cluster, job, context.reference("long"))
    return "3 deaths, 3 jobs"


@case(14, "100 SUBMITs with one key at once; then another body", "one job; key_reused_with_other_body")
def one_key(context):
    cluster = context.cluster()
    found, problems = [], []

    def client():
        try:
            found.append(context.submit(cluster, "short", "the-key"))
        except Exception as problem:
            problems.append(problem)
    threads = [threading.Thread(target=client) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems or len(set(found)) != 1:
        raise Wrong(f"{len(set(found))} jobs, {len(problems)} problems: {problems[:1]}")
    status, answer = cluster.ask(
        "POST", "/v1/videos", {"prompt": "another"}, {"Idempotency-Key": "the-key"})
    if status != 409 or answer["error"]["code"] != "key_reused_with_other_body":
        raise Wrong(f"another body under the key is answered with {status}: {answer}")
    cluster.finish(found[0])
    return f"{len(found)} answers name one job, the other body 409"


@case(24, "10 times the rate that the cluster bears, for 12 s, by 4 tenants",
      "429 with a time that holds when it is obeyed; accepted jobs end; memory flat")
def overload(context):
    cluster = context.cluster(broker=("--queue-limit", "20", "--tenant-limit", "7"))
    began = time.monotonic()
    for job in [context.submit(cluster, "short") for _ in range(5)]:
        cluster.finish(job)
    rate = 5 / (time.monotonic() - began)
    before = cluster.broker.rss() + cluster.gateway.rss()
    refused, waits, sent = {}, [], 0
    end = time.monotonic() + 12
    while time.monotonic() < end:
        job, code, seconds = knock(context, cluster, f"tenant-{sent % 4}")
        sent += 1
        if not job:
            refused[code] = refused.get(code, 0) + 1
            waits.append(seconds)
        time.sleep(1 / (10 * rate))
    grown = cluster.broker.rss() + cluster.gateway.rss() - before
    if not refused:
        raise Wrong(f"all {sent} were accepted at {10 * rate:.0f}/s against {rate:.1f}/s")
    if min(waits) < 1 or max(waits) > 600:
        raise Wrong(f"Retry-After is {min(waits)} to {max(waits)} s")
    errors = forecasts(cluster)
    first_time, obeyed = obedient(context, cluster)
    for job, _ in cluster.accepted:
        wait(f"{job} ends", lambda: cluster.job(job)["status"] == "completed", 240, 0.1)
    if grown > 64 << 20:
        raise Wrong(f"broker and gateway grew by {grown >> 20} MiB")
    if first_time < obeyed - 1:
        raise Wrong(f"of {obeyed} clients that came back when they were told to, {first_time} were taken")
    return (f"{sent} sent at {10 * rate:.0f}/s against {rate:.1f}/s: refused {refused}, told to wait {min(waits)} to "
            f"{max(waits)} s; {first_time} of {obeyed} that did were taken at once; {len(cluster.accepted)} accepted, all "
            f"completed, estimates off by {100 * errors:.0f} % (median); +{grown >> 20} MiB")


def knock(context, cluster, tenant):
    """(job, None, None), or (None, the code of the refusal, its Retry-After in seconds)."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=30)
    try:
        connection.request("POST", "/v1/videos", json.dumps({**REQUEST, **KINDS["short"]}), {
            "Content-Type": "application/json", "Authorization": f"Bearer {tenant}"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status == 200:
        cluster.accepted.append((content["id"], None))
        context.note(cluster, "short", content["id"])
        return content["id"], None, None
    if answer.status != 429 or content["error"]["code"] not in ("quota", "overloaded"):
        raise Wrong(f"overload is answered with {answer.status}: {content}")
    return None, content["error"]["code"], int(answer.headers["Retry-After"])


def forecasts(cluster):
    """How far the estimated ends of all unfinished jobs are from their real ones: the median, as a share."""
    asked, ends, errors = {}, {}, []
    for job, _ in cluster.accepted:
        eta = cluster.job(job).get("x_eta_ms")
        if eta and eta > 2000:
            asked[job] = time.monotonic(), eta / 1000

    def over():
        for job in asked:
            if job not in ends and cluster.job(job)["status"] == "completed":
                ends[job] = time.monotonic()
        return len(ends) == len(asked)
    wait("the queue is empty", over, 240, 0.05)
    for job, (at, eta) in asked.items():
        errors.append(abs(ends[job] - at - eta) / (ends[job] - at))
    return sorted(errors)[len(errors) // 2] if errors else 0.0


def obedient(context, cluster):
    """Fills the queue until somebody is refused, waits as told and comes again, three times for each limit: (how many
    were taken then, how many came)."""
    taken = came = 0
    for code in ("quota", "overloaded") * 3:
        number, end = 0, time.monotonic() + 180
        while True:
            tenant = "one" if code == "quota" else f"many-{number % 4}"
            job, refusal, seconds = knock(context, cluster, tenant)
            number += 1
            if refusal == code:
                break
            if time.monotonic() > end:
                raise Wrong(f"nobody was refused with {code}")
            if refusal == "overloaded":
                time.sleep(0.5)  # of all limits this one comes first
        time.sleep(seconds)
        came += 1
        taken += knock(context, cluster, tenant)[0] is not None
    return taken, came


@case(30, "wall clock of broker and workers jumps by ±1 day", "no spurious expiry, nothing immortal")
def clock_jumps(context):
    cluster = context.cluster(start=False, lease=3, workers={"denoiser": 2})
    library = os.path.join(cluster.folder, "clock.so")
    if subprocess.run(["clang", "-O1", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "clock.c"), "-ldl"],
                      capture_output=True).returncode:
        raise Skip("clang is needed for the shim of the clock")
    offset = os.path.join(cluster.folder, "offset")
    for member in cluster.members.values():
        member.environment = {"LD_PRELOAD": library, "CHAOS_CLOCK": offset}
    cluster.start()
    history.record(cluster)
    for seconds in (86_400, -86_400, 0):
        job = context.submit(cluster, "long")
        cluster.wait_held(job, "denoiser", step=10)
        with open(offset + ".new", "w") as file:
            file.write(str(seconds))
        os.rename(offset + ".new", offset)
        cluster.finish(job)
        if cluster.task(job, "denoiser")["attempt"] != 1:
            raise Wrong(f"a jump to {seconds:+d} s ended a lease")
        created = cluster.job(cluster.submit())["created_at"]
        if seconds and abs(created - time.time() - seconds) > 120:
            raise Wrong("the shim does not work: the broker does not see the jump")
    for job, _ in cluster.accepted:
        cluster.finish(job)
    job = context.submit(cluster, "long")
    holder = cluster.wait_held(job, "denoiser", step=5)
    with open(offset + ".new", "w") as file:
        file.write("-86400")
    os.rename(offset + ".new", offset)
    cluster[holder].kill()
    cluster.finish(job)
    return "3 jumps, no lease ended; a dead worker's lease ended in time after a jump back"


@case(34, "a second broker on the same ledger, and on a copy of it", "the first is refused; the copy reaches nobody")
def two_brokers(context):
    cluster = context.cluster()
    job = context.submit(cluster, "long")
    cluster.wait_held(job, "denoiser", step=5)
    other = os.path.join(cluster.folder, "other")
    twin = cluster.add("twin", "zoetrope-broker", ["--run-directory", other, "--data-directory", cluster.data])
    twin.start()
    wait("the second broker gives up", lambda: not twin.is_alive, 20)
    if "ledger_in_use" not in twin.said() and "store_in_use" not in twin.said():
        raise Wrong(f"the second broker said {twin.said()[-300:]}")
    copy = os.path.join(cluster.folder, "copy")
    shutil.copytree(cluster.data, copy)
    clone = cluster.add("clone", "zoetrope-broker", ["--run-directory", cluster.run, "--data-directory", copy])
    clone.start()
    wait("the copy gives up", lambda: not clone.is_alive, 20)
    if "endpoint_in_use" not in clone.said():
        raise Wrong(f"the copy in the same run directory said {clone.said()[-300:]}")
    del cluster.members["twin"], cluster.members["clone"]
    cluster.finish(job)
    return "ledger_in_use; endpoint_in_use for a copy in the same run directory; the job did not notice"


@case(35, "broker restart with 300 workers that come back at once", "steady in under 5 s, no lease expires")
def restart_storm(context):
    cluster = context.cluster(lease=6)
    path = os.path.join(cluster.run, "broker.sock")
    count = 300
    identities = [(f"storm-{number}".encode(), stranger.session()) for number in range(count)]

    def arrive():
        peers = []
        for name, session in identities:
            peer = stranger.Peer(path)
            peer.send(stranger.hello(name, b"storm", session))
            peers.append(peer)
        for peer in peers:
            peer.receive(20)  # WELCOME
        for peer, (_, session) in zip(peers, identities):
            peer.send(stranger.beat(session, 2))
        for peer in peers:
            peer.receive(20)
        return peers
    peers = arrive()
    job = context.submit(cluster, "long")
    cluster.wait_held(job, "denoiser", step=10)
    for peer in peers:
        peer.close()
    cluster.broker.kill()
    began = time.monotonic()
    cluster.broker.start()
    wait("the socket is back", lambda: os.path.exists(path) and can_connect(path), 20, 0.01)
    up = time.monotonic() - began
    peers = arrive()
    took = time.monotonic() - began
    cluster.finish(job)
    attempts = cluster.task(job, "denoiser")["attempt"]
    for peer in peers:
        peer.close()
    if took > 5 or attempts != 1:
        raise Wrong(f"{took:.1f} s, {attempts} attempts of the running render")
    return f"socket after {up:.2f} s, all {count} welcome and beating after {took:.2f} s; the render kept its lease"


def can_connect(path):
    try:
        stranger.Peer(path).close()
        return True
    except OSError:
        return False


@case(36, "cancel races with the end of a job, 40 times", "one terminal state, and the client hears which")
def cancel_race(context):
    cluster = context.cluster(workers={"video-muxer": 2})
    chance = random.Random(36)
    outcomes = {"cancelled": 0, "completed": 0}
    typical = 0.6
    for number in range(40):
        job = context.submit(cluster, "short")
        cluster.wait_held(job, "denoiser")
        began = time.monotonic()
        time.sleep(typical * chance.random() * 1.3)
        status, answer = cluster.ask("DELETE", f"/v1/videos/{job}")
        video = cluster.job(job)
        won = "cancelled" if (video.get("error") or {}).get("code") == "cancelled" else video["status"]
        if answer["deleted"] != (won == "cancelled") or won not in outcomes:
            raise Wrong(f"the client heard {answer}, the job is {won}")
        outcomes[won] += 1
        # Closes in on the moment at which both are likely.
        typical = min(10, max(0.1, typical * (0.7 if won == "completed" else 1.15)))
    if min(outcomes.values()) == 0:
        raise Wrong(f"no race took place: {outcomes}")
    return f"{outcomes['cancelled']} cancelled, {outcomes['completed']} completed first; every answer was true"
