"""Rows 26 and 27: damaged frames, floods."""

import os
import resource
import socket
import time

import history
import stranger
from chaos import case
from cluster import Wrong, wait

@case(26, "damaged and forbidden control frames, 64 KiB of junk", "dropped, counted, session void; broker serves on")
def damaged_frames(context):
    cluster = context.cluster()
    path = os.path.join(cluster.run, "broker.sock")
    session = stranger.session()
    good = stranger.hello(b"odd", b"odd", session)
    forbidden = stranger.frame((0x0102, 17), b"", session)  # WELCOME is the broker's to say
    junk = [
        ("bad_crc", [good[:-1] + bytes([good[-1] ^ 1])]), ("bad_magic", [os.urandom(65536)]),
        ("bad_magic", [b""]), ("version_unsupported", [stranger.frame(stranger.HELLO, b"", session, version=9)]),
        ("malformed", [stranger.frame(stranger.HELLO, b"", session, length=7)]),
        ("malformed", [stranger.frame(stranger.HELLO, b"\xff" * 50, session)]),
        ("unexpected", [forbidden]), ("unexpected", [stranger.frame((0x7777, 16), b"", session)]),
        ("extra_frames", [good, b"more"]),
    ]
    before = cluster.broker.rss()
    answers = {}
    job = context.submit(cluster, "long")
    for _ in range(10):
        for code, frames in junk:
            peer = stranger.Peer(path)
            peer.send(*frames)
            try:
                reply = peer.receive(3)[-1]
                answers[code] = answers.get(code, 0) + (code.encode() in reply)
            except (OSError, ConnectionError):
                answers[code] = answers.get(code, 0) + 1  # hung up at once is as good
            peer.close()
    missing = [code for code, _ in junk if not answers.get(code)]
    if missing:
        raise Wrong(f"no answer names {missing}: {answers}")
    striker = stranger.Peer(path)
    for _ in range(5):
        striker.send(os.urandom(100))
    striker.send(good)
    replies = 0
    try:
        while True:
            replies += 1
            if b"bad_magic" not in striker.receive(1)[-1]:
                raise Wrong("after five strikes the peer was welcomed")
    except (OSError, ConnectionError):
        pass
    cluster.finish(job)
    grown = cluster.broker.rss() - before
    if grown > 64 << 20:
        raise Wrong(f"the broker grew by {grown >> 20} MiB")
    return f"{sum(answers.values())} refusals of 8 kinds, {replies - 1} strikes answered, the render unharmed"


@case("26b", "HTTP rubbish: broken requests, endless headers and bodies, 150 slow clients",
      "refused; others are served")
def http_rubbish(context):
    cluster = context.cluster()
    address = ("127.0.0.1", cluster.port)
    before = cluster.gateway.rss()
    head = b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    rubbish = [
        os.urandom(2000), b"GET " + b"/" * 200_000 + b" HTTP/1.1\r\n\r\n", b"\r\n" * 50_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
        head + b"Content-Length: 99999999999999\r\n\r\n" + b"x" * 300_000,
        head + b"Content-Length: -1\r\n\r\n{}", head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        head + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n",
        head + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000,
    ]
    codes = {}
    for _ in range(5):
        for text in rubbish:
            with socket.create_connection(address, timeout=5) as peer:
                try:
                    peer.sendall(text)
                    peer.shutdown(socket.SHUT_WR)
                    line = peer.recv(100).split(b"\r\n")[0].decode("latin-1")
                except OSError:
                    line = "hung up"
                code = line.split(" ")[1] if " " in line and line.startswith("HTTP") else line or "hung up"
                codes[code] = codes.get(code, 0) + 1
    slow = [socket.create_connection(address, timeout=5) for _ in range(150)]
    for peer in slow:
        context.later(peer.close)
        peer.sendall(b"POST /v1/videos HTTP/1.1\r\nHost:")
    cluster.finish(context.submit(cluster, "short"))
    grown = cluster.gateway.rss() - before
    if any(code[0] in "25" for code in codes) or grown > 128 << 20 or not cluster.gateway.is_alive:
        raise Wrong(f"{codes}, the gateway grew by {grown >> 20} MiB")
    return f"answers {codes}, the gateway grew by {grown >> 20} MiB; a job beside 150 open requests completed"


@case("27a", "endless message of 1-byte frames from an admitted peer",
      "the broker is limited and restarted; jobs survive")
def endless_message(context):
    cluster = context.cluster(start=False, lease=3)
    limit = 3 << 30
    cluster.broker.before_exec = lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    cluster.start()
    history.record(cluster)
    job = context.submit(cluster, "long")
    cluster.wait_held(job, "denoiser", step=5)
    peer = stranger.Peer(os.path.join(cluster.run, "broker.sock"))
    piece = b"\x01\x01x" * 50_000
    sent, peak = 0, 0
    end = time.monotonic() + 25
    try:
        while time.monotonic() < end and sent < 60_000_000:
            peer.socket.sendall(piece)
            sent += len(piece) // 3
            peak = max(peak, cluster.broker.rss())
    except OSError:
        pass
    died = not cluster.broker.is_alive
    peer.close()
    if not died:
        cluster.broker.kill()
    cluster.broker.start()
    cluster.wait_ready()
    cluster.finish(job)
    return (f"{sent / 1e6:.0f} MB cost {peak >> 20} MiB, the broker {'died at its limit' if died else 'lived'} and was "
            "restarted; the render completed")


@case("27b", "fd flood: 400 silent connections, 128 descriptors", "served again after it; jobs survive")
def descriptor_flood(context):
    cluster = context.cluster(start=False, lease=3, tcp=True)
    cluster.broker.before_exec = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    cluster.start()
    history.record(cluster)
    job = context.submit(cluster, "long")
    cluster.wait_held(job, "denoiser", step=5)
    silent = []
    for _ in range(400):
        try:
            silent.append(socket.create_connection(("127.0.0.1", cluster.control_port), timeout=1))
        except OSError:
            break
    time.sleep(2)
    died = not cluster.broker.is_alive
    peak = cluster.broker.descriptors()
    for peer in silent:
        peer.close()
    if died:
        cluster.broker.start()
    wait("the broker answers again", lambda: cluster.ask("GET", "/v1/videos?limit=1", strict=False)[0] == 200, 40)
    cluster.finish(job, 120)
    cluster.finish(context.submit(cluster, "short"), 120)
    return f"{len(silent)} connections, {peak} descriptors in use, the broker {'died, restarted' if died else 'lived'}"
