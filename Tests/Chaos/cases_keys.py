"""Rows 25, 28 and 29: strangers at the ports, the handler that admits keys, a key that is revoked."""

import os
import socket
import subprocess
import time

import curve
import freeze
import history
import stranger
from chaos import HERE, Skip, case
from cluster import Wrong, free_port, wait

GREETING = b"\xff" + bytes(8) + b"\x7f"


def ports(cluster, decoder_port):
    """Every TCP port behind which something of value lies, with the process that serves it."""
    return [("control", cluster.control_port, cluster.broker), ("store", cluster.data_port, cluster.broker),
            ("frames", decoder_port, cluster["vae-decoder-1"])]


def rubbish(number):
    """What somebody without libzmq might say first."""
    return [
        b"GET / HTTP/1.1\r\n\r\n", os.urandom(500), b"", GREETING, GREETING + b"\x03\x00" + b"CURVE".ljust(52, b"\0"),
        GREETING + b"\x03\x00" + b"NULL".ljust(52, b"\0"), GREETING + b"\x03\x00" + b"CURVE".ljust(52, b"\0")
        + b"\x04\xc8\x05HELLO" + os.urandom(194), b"\x16\x03\x01" + os.urandom(300)][number % 8]


@case(25, "strangers on every port: not ZMTP, NULL, PLAIN, no key, wrong key, half a handshake",
      "refused; no growth; others do not notice")
def strangers(context):
    decoder_port = free_port()
    cluster = context.cluster(start=False, keys=True, workers={"vae-decoder": 0})
    cluster.worker("vae-decoder", extra=("--data-port", str(decoder_port), "--advertise-host", "127.0.0.1"))
    cluster.start()
    history.record(cluster)
    context.submit(cluster, "short")
    cluster.finish(cluster.accepted[0][0])
    doors = ports(cluster, decoder_port)
    before = {name: (member.rss(), member.descriptors()) for name, _, member in doors}
    job = context.submit(cluster, "longer")
    rough = nulls = answered = 0
    for round in range(24):
        for name, port, _ in doors:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
                peer.sendall(rubbish(round))
                rough += 1
            if round % 4:
                continue
            try:
                peer = stranger.Peer(("127.0.0.1", port), timeout=4)
                peer.send(stranger.hello(b"stranger", b"denoiser", stranger.session()))
                peer.receive(1)
                answered += 1
            except (OSError, ConnectionError):
                nulls += 1
    # Handshakes that are begun and never go on: nothing may stay open for them.
    half = []
    for number in range(50):
        for _, port, _ in doors:
            peer = socket.create_connection(("127.0.0.1", port), timeout=5)
            context.later(peer.close)
            peer.sendall(GREETING[:1 + number % 10] if number % 2 else rubbish(4))
            half.append(peer)
    # By libzmq itself, as somebody would who has read our manual and whom nobody has authorised.
    with curve.Context() as libzmq:
        server = cluster.keys.public("broker")
        knocking = []
        for _ in range(15):
            for _, port, _ in doors:
                there = f"tcp://127.0.0.1:{port}"
                knocking += [libzmq.peer(there, curve.pair(), server), libzmq.peer(there),
                             libzmq.peer(there, plain=True), libzmq.peer(there, curve.pair(), curve.pair()[0])]
        for peer in knocking:
            peer.send(stranger.hello(b"stranger", b"denoiser", stranger.session()))
        time.sleep(4)
        answered += sum(peer.receive(0) is not None for peer in knocking)
    if answered:
        raise Wrong(f"{answered} strangers were answered")
    still_open = sum(not closed(peer) for peer in half)
    if still_open:
        raise Wrong(f"{still_open} of {len(half)} half handshakes are still open after 4 s")
    cluster.finish(job)
    if cluster.task(job, "denoiser")["attempt"] != 1:
        raise Wrong("the strangers cost the job beside them a lease")
    wait("all descriptors are given back", lambda: all(
        member.descriptors() <= before[name][1] + 8 for name, _, member in doors), 20, 0.2)
    grown = {name: (member.rss() - before[name][0]) >> 20 for name, _, member in doors}
    if max(grown.values()) > 24:
        raise Wrong(f"memory grew by MiB: {grown}")
    if "is not authorised" not in cluster.broker.said():
        raise Wrong("the broker's log does not name the strangers")
    spy = inside_without_rights(cluster)
    return (f"{rough + nulls + len(half) + len(knocking)} strangers at 3 ports, none answered; grew by MiB {grown}, "
            f"every descriptor was given back; the render beside them kept its lease; {spy}")


def closed(peer):
    """Whether the other side has hung up, whatever it said before."""
    peer.setblocking(False)
    try:
        while peer.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def inside_without_rights(cluster):
    """An authorised worker's key that asks for what is not its own."""
    cluster.keys.make("spy", "worker", "video-muxer")
    me = cluster.keys.public("spy"), cluster.keys.secret("spy")
    server = cluster.keys.public("broker")
    latents = history.Run(history.entries(cluster)).outputs(cluster.accepted[0][0])["denoise"]["latents"]

    def knock():
        with curve.Context() as libzmq:
            peer = libzmq.peer(cluster.endpoint, me, server)
            peer.send(stranger.frame(stranger.CANCEL, stranger.data(1, cluster.accepted[0][0].encode()),
                                     stranger.session()))
            return peer.receive(2)
    said = wait("the new key is known", knock, 20, 0.2)
    if b"forbidden" not in said[-1]:
        raise Wrong(f"a worker's CANCEL is answered with {said[-1][:200]}")
    with curve.Context() as libzmq:
        peer = libzmq.peer(f"tcp://127.0.0.1:{cluster.data_port}", me, server)
        peer.send(stranger.frame(stranger.GET, stranger.data(1, bytes.fromhex(latents)) + stranger.number(4, 1 << 20),
                                 stranger.session()))
        said = peer.receive(5)
    if not said or b"ticket" not in said[-1]:
        raise Wrong(f"a GET without a ticket is answered with {said and said[-1][:200]}")
    return "a worker's key alone may neither cancel nor read a blob"


@case(28, "ZAP handler stalls, is deaf, is never asked", "sessions live; nobody new gets in; no service without it")
def handler_away(context):
    cluster = context.cluster(start=False, keys=True, lease=8, workers={"denoiser": 1})
    library = os.path.join(cluster.folder, "zap.so")
    if subprocess.run(["clang", "-O1", "-shared", "-fPIC", "-o", library, os.path.join(HERE, "zap.c"), "-ldl"],
                      capture_output=True).returncode:
        raise Skip("clang is needed for the shim of the handler")
    if not freeze.is_possible():
        raise Skip("stopping single threads needs ptrace")
    for mode in ("deaf", "open"):
        cluster.broker.environment = {"LD_PRELOAD": library, "CHAOS_ZAP": mode}
        cluster.broker.start()
        wait(f"a broker whose handler is {mode} gives up", lambda: not cluster.broker.is_alive, 30)
        if "security_self_test_failed" not in cluster.broker.said() or '"event":"ready"' in cluster.broker.said():
            raise Wrong(f"a broker whose handler is {mode} said {cluster.broker.said()[-300:]}")
    cluster.broker.environment = {}
    cluster.start()
    history.record(cluster)
    job = context.submit(cluster, "longer")
    cluster.wait_held(job, "denoiser", step=20)
    stopped = freeze.named(cluster.broker.pid, "broker-bus")
    context.later(stopped.release)
    began = time.monotonic()
    with curve.Context() as libzmq:
        peer = libzmq.peer(cluster.endpoint, (cluster.keys.public("gateway"), cluster.keys.secret("gateway")),
                           cluster.keys.public("broker"))
        peer.send(stranger.frame(stranger.CLIENT_HELLO, b"", stranger.session()))
        if peer.receive(3) is not None:
            raise Wrong("somebody got in while the handler stood still")
        stopped.release()
        waited = time.monotonic() - began
        if peer.receive(10) is None:
            raise Wrong("an authorised key did not get in after the stall")
    cluster.finish(job)
    if cluster.task(job, "denoiser")["attempt"] != 1:
        raise Wrong("the stall cost the render its lease")
    return (f"deaf or never asked: the self-test ends the broker before it serves; stalled for {waited:.0f} s with the "
            "whole bus thread: an authorised key had to wait, the render kept its lease")


@case(29, "key revoked while its worker renders", "no new handshake; session ignored; lease reassigned; same frames")
def revoked(context):
    cluster = context.cluster(keys=True, lease=10, workers={"denoiser": 2})
    waits = []
    for _ in range(3):
        job = context.submit(cluster, "longer")
        holder = cluster.wait_held(job, "denoiser", step=20)
        began = time.monotonic()
        cluster.keys.revoke(holder)
        cluster.wait_for(job, lambda video: any(
            task["stage"] == "denoiser" and task["worker"] not in ("", holder) for task in video["x_stages"]),
            "another denoiser has the task", 8)
        waits.append(time.monotonic() - began)
        heard = len(cluster[holder].said())
        cluster[holder].kill()
        cluster[holder].start()  # a new handshake with the old key
        wait("the revoked worker is told", lambda: "does not admit our key" in cluster[holder].said()[heard:], 20)
        cluster.finish(job)
        workers = cluster.ask("GET", "/healthz")[1]["stages"]["denoiser"]["workers"]
        task = cluster.task(job, "denoiser")
        if workers != 1 or task["worker"] == holder:
            raise Wrong(f"{workers} denoisers are in the cluster, the task ended on {task['worker']}")
        cluster.keys.authorize(holder, "worker", "denoiser")
        wait("the denoiser is back", lambda: cluster.ask("GET", "/healthz")[1]["stages"]["denoiser"]["workers"] == 2, 30)
    reasons = history.check(cluster).reasons
    if reasons.get("expired") or reasons.get("failed"):
        raise Wrong(f"leases ended: {reasons}")
    return (f"3 revocations, the lease with another worker after {min(waits):.1f} to {max(waits):.1f} s (a lease is 10 s);"
            f" leases ended: {reasons}; authorised again, each came back")
