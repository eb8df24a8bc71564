"""Rows 12b and 15 to 21: partitions, slow and dirty links, machines that come back."""

import time

import history
import namespace
from chaos import Skip, case
from cluster import Wrong, wait


def nodes(context, stage, count=2, lease=3, **options):
    """A cluster whose workers of one stage are machines of their own."""
    reason = namespace.why_not()
    if reason:
        raise Skip(reason)
    cluster = context.cluster(start=False, tcp=True, lease=lease, workers={stage: 0}, **options)
    cluster.broker.start()
    history.record(cluster)
    made = [namespace.Node(context, cluster, stage, number) for number in range(1, count + 1)]
    cluster.start()
    wait(f"{count} of the {stage}", lambda: cluster.ask("GET", "/healthz")[1]["stages"][stage]["workers"] == count, 30)
    return cluster, {node.worker.name: node for node in made}


def partitioned(context, cluster, machines, seconds, directions=()):
    """One render whose denoiser is cut off in its middle for so long."""
    job = context.submit(cluster, "long")
    holder = cluster.wait_held(job, "denoiser", step=10)
    machines[holder].partition(*directions)
    time.sleep(seconds)
    machines[holder].heal()
    cluster.finish(job)
    return cluster.task(job, "denoiser")["attempt"]


def all_back(cluster, count):
    wait("every denoiser is back", lambda: cluster.ask("GET", "/healthz")[1]["stages"]["denoiser"]["workers"] == count,
         40, 0.1)


@case("12b", "bytes flipped on the data plane, on the wire", "CRC or digest refuses them; the same frames in the end")
def flipped_on_the_way(context):
    cluster, machines = nodes(context, "vae-decoder", count=1, lease=5)
    node = machines["vae-decoder-1"]
    flipped = 0
    for after in (200, 60_000, 200_000):
        node.served.flips = node.served.flipped + 2
        node.served.flip_after = after
        job = context.submit(cluster, "film")
        cluster.finish(job)
        history.check_video(cluster, job, context.reference("film"))
    flipped = node.served.flipped
    if flipped < 3:
        raise Wrong(f"only {flipped} bytes were damaged")
    return f"{flipped} bytes damaged under 3 jobs, same videos"


@case("12c", "bytes flipped under CURVE, on the data plane and the control plane",
      "the connection ends and is made anew; the same frames in the end")
def flipped_ciphertext(context):
    cluster, machines = nodes(context, "vae-decoder", count=1, lease=5, keys=True)
    node = machines["vae-decoder-1"]
    flipped = 0
    for proxy, after in ((node.served, 60_000), (node.control, 500), (node.store, 3000), (node.served, 200_000),
                         (node.control, 300)):
        before = sum(one.flipped for one in node.proxies)
        proxy.flips, proxy.flip_after = proxy.flipped + 1, after
        job = context.submit(cluster, "film")
        cluster.finish(job)
        history.check_video(cluster, job, context.reference("film"))
        wait("the machine is in the cluster", lambda: cluster.ask("GET", "/healthz")[0] == 200, 60, 0.1)
        flipped += sum(one.flipped for one in node.proxies) - before
    if flipped < 4:
        raise Wrong(f"only {flipped} bytes were damaged")
    attempts = [max(task["attempt"] for task in cluster.job(job)["x_stages"]) for job, _ in cluster.accepted]
    return f"{flipped} bytes damaged under 5 jobs, at most {max(attempts)} attempts of a task, same videos"


@case(15, "partition of the denoiser's machine, shorter than a lease", "nothing lost, the task continues")
def short_partition(context):
    cluster, machines = nodes(context, "denoiser", lease=4)
    attempts = [partitioned(context, cluster, machines, seconds) for seconds in (0.5, 1.5)]
    if attempts != [1, 1]:
        raise Wrong(f"leases: {attempts}")
    return "0.5 s and 1.5 s with a lease of 4 s: 1 lease each"


@case(16, "partition longer than a lease, both sides alive", "another takes over; the old one's results are refused")
def long_partition(context):
    cluster, machines = nodes(context, "denoiser")
    attempts = []
    for seconds in (6, 10):
        attempts.append(partitioned(context, cluster, machines, seconds))
        all_back(cluster, 2)
    if min(attempts) < 2:
        raise Wrong(f"leases: {attempts}")
    return f"6 s and 10 s with a lease of 3 s: {attempts} leases, both machines serve again"


@case(17, "one-way partition: the worker hears nothing, or is not heard", "as row 16, or nothing at all")
def one_way(context):
    cluster, machines = nodes(context, "denoiser")
    attempts = {}
    for direction, name in (("down", "hears nothing"), ("up", "is not heard")):
        attempts[name] = partitioned(context, cluster, machines, 7, (direction,))
        all_back(cluster, 2)
    return "; ".join(f"{name}: {count} leases" for name, count in attempts.items())


@case(18, "partition on the data plane only, 6 s", "waits or goes elsewhere; not counted as a crash")
def data_partition(context):
    cluster, machines = nodes(context, "vae-decoder", count=1, lease=2)
    node = machines["vae-decoder-1"]
    muxer = cluster["video-muxer-1"]
    muxer.freeze()
    job = context.submit(cluster, "short")
    cluster.wait_held(job, "video-muxer")
    node.partition(planes=[node.served, node.store])
    muxer.thaw()
    time.sleep(6)
    node.heal()
    cluster.finish(job)
    run = history.check(cluster)
    if run.reasons.get("expired", 0) > 1:  # the frozen muxer may have cost one
        raise Wrong(f"leases ended: {run.reasons}")
    return f"completed; leases ended otherwise: {run.reasons or 'none'}"


@case(19, "worker's machine loses power, comes back with the same address", "new session served; old lease fenced")
def power_loss(context):
    cluster, machines = nodes(context, "denoiser", count=1, lease=2)
    waits = []
    for _ in range(3):
        job = context.submit(cluster, "long")
        cluster.wait_held(job, "denoiser", step=10)
        node = machines["denoiser-1"]
        node.partition()  # nobody hears a FIN: to the broker the old connection is as good as ever
        node.worker.kill()
        old = list(node.control.pairs)
        time.sleep(0.3)
        with node.control.lock:
            kept = [pair for pair in node.control.pairs if pair in old]
            node.control.pairs = [pair for pair in node.control.pairs if pair not in kept]
        node.heal()
        began = time.monotonic()
        node.worker.start()
        cluster.finish(job)
        attempts = cluster.task(job, "denoiser")["attempt"]
        waits.append(time.monotonic() - began)
        for pair in kept:
            node.control.drop(pair)
        if attempts < 2:
            raise Wrong("the lease of the dead session was not ended")
    return f"3 losses, with the old connection left half open; done {max(waits):.1f} s after the return at worst"


@case(20, "delay, jitter, resets every second, replayed streams", "same results")
def dirty_network(context):
    cluster, machines = nodes(context, "denoiser", lease=4)
    for node in machines.values():
        for proxy in node.proxies:
            proxy.delay, proxy.jitter = 0.02, 0.06
        node.control.recording = []
    jobs = []
    for number in range(4):
        jobs.append(context.submit(cluster, "long"))
        cluster.wait_held(jobs[-1], "denoiser", step=5)
        for node in machines.values():
            node.control.cut()
            node.store.cut()
    replayed = 0
    for node in machines.values():
        streams = [list(stream) for stream in node.control.recording if stream]
        node.control.replay(streams)
        replayed += len(streams)
    for job in jobs:
        cluster.finish(job, 180)
    resets = sum(proxy.resets for node in machines.values() for proxy in node.proxies)
    return f"{resets} resets, {replayed} connections sent once more to the broker, 4 renders equal"


@case(21, "link so slow that frames take longer than two leases", "completes; beats unaffected, no lease ends")
def slow_link(context):
    cluster, machines = nodes(context, "vae-decoder", count=1, lease=2)
    cluster.finish(context.submit(cluster, "film"))
    node = machines["vae-decoder-1"]
    size = 49 * 3 * int(cluster.job(cluster.accepted[0][0])["size"].split("x")[0]) * int(
        cluster.job(cluster.accepted[0][0])["size"].split("x")[1])
    for proxy in node.proxies:
        proxy.rate = max(2000, size / 5)
    job = context.submit(cluster, "film")
    began = time.monotonic()
    cluster.finish(job, 180)
    took = time.monotonic() - began
    attempts = [task["attempt"] for task in cluster.job(job)["x_stages"]]
    if max(attempts) > 1:
        raise Wrong(f"leases: {attempts}")
    return f"{size / 1e6:.1f} MB at {node.served.rate / 1e3:.0f} kB/s, {took:.0f} s, 1 lease each"
