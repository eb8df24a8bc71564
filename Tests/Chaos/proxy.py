"""A TCP proxy in user space: delay, stalls (what loss looks like above TCP), cuts, resets, damage, replayed streams.

This kernel has no netem, and ZeroMQ runs over TCP: a lost segment is a pause, a partition a pause that does not end, a
duplicate a connection whose bytes arrive once more.
"""

import random
import socket
import struct
import threading
import time


class Direction:
    """Bytes on their way from one socket to the other."""

    def __init__(self, source, target, name):
        self.source, self.target, self.name = source, target, name
        self.queue = []  # (due, bytes)
        self.queued = 0
        self.allowance = 0.0
        self.is_closed = False


class Proxy:
    """Listens on a port of its own and carries connections to `target`.

    Everything is set while it runs: `delay` seconds each way, `jitter` beside it, `rate` bytes a second each way,
    `stalled` the directions in which nothing moves ("up" = client to target, "down" = back), `refusing` new
    connections, `flips` bytes to damage on the way down after `flip_after` bytes, `recording` what goes up.
    """

    limit = 1 << 18  # bytes held for a direction before its sender has to wait

    def __init__(self, target, listen=("127.0.0.1", 0), seed=1, inside=None, target_inside=None):
        from namespace import Inside
        self.target, self.random, self.target_place = target, random.Random(seed), Inside(target_inside)
        self.delay = self.jitter = 0.0
        self.rate = None
        self.stalled, self.refusing = set(), False
        self.flips, self.flip_after = 0, 0
        self.flipped = self.resets = self.connections = 0
        self.recording = None
        self.pairs = []
        with Inside(inside):
            self.server = socket.socket()
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.server.bind(listen)
        self.server.listen(128)
        self.address = self.server.getsockname()
        self.lock = threading.RLock()
        self.is_open = True
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    @property
    def endpoint(self):
        return f"tcp://{self.address[0]}:{self.address[1]}"

    def close(self):
        self.is_open = False
        self.thread.join(5)
        self.cut(reset=False)
        self.server.close()

    def cut(self, reset=True):
        """Ends every connection, by RST unless told otherwise."""
        with self.lock:
            for pair in list(self.pairs):
                if reset:
                    for direction in pair:
                        try:
                            direction.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        except OSError:
                            pass
                    self.resets += 1
                self.drop(pair)

    def replay(self, streams):
        """Sends what was recorded once more, on new connections; the answers go nowhere. The target may hang up."""
        for stream in streams:
            with self.target_place:
                copy = socket.create_connection(self.target, timeout=5)
            with copy:
                try:
                    for piece in stream:
                        copy.sendall(piece)
                except OSError:
                    continue
                time.sleep(0.3)

    # The thread

    def work(self):
        self.server.settimeout(0.0)
        while self.is_open:
            with self.lock:
                self.accept()
                moved = self.move()
            time.sleep(0.0005 if moved else 0.003)

    def accept(self):
        try:
            client, _ = self.server.accept()
        except OSError:
            return
        if self.refusing:
            client.close()
            return
        try:
            with self.target_place:
                target = socket.create_connection(self.target, timeout=1)
        except OSError:
            client.close()
            return
        for end in (client, target):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        pair = (Direction(client, target, "up"), Direction(target, client, "down"))
        pair[0].record = [] if self.recording is not None else None
        pair[1].record = None
        if self.recording is not None:
            self.recording.append(pair[0].record)
        self.pairs.append(pair)

    def move(self):
        moved = False
        now = time.monotonic()
        for pair in list(self.pairs):
            for direction in pair:
                if direction.name in self.stalled:
                    continue
                try:
                    moved |= self.read(direction, now)
                    moved |= self.write(direction, now)
                except OSError:
                    self.drop(pair)
                    break
            if pair in self.pairs and any(d.is_closed and not d.queue for d in pair):
                self.drop(pair)
        return moved

    def read(self, direction, now):
        if direction.is_closed or direction.queued >= self.limit:
            return False
        try:
            data = direction.source.recv(65536)
        except BlockingIOError:
            return False
        if not data:
            direction.is_closed = True
            return True
        if direction.record is not None:
            direction.record.append(data)
        if direction.name == "down" and self.flips > self.flipped:
            data = self.damage(data)
        due = now + self.delay + self.jitter * self.random.random()
        if direction.queue:
            due = max(due, direction.queue[-1][0])  # TCP keeps the order
        direction.queue.append((due, data))
        direction.queued += len(data)
        return True

    def damage(self, data):
        if self.flip_after > 0:
            self.flip_after -= len(data)
            return data
        place = self.random.randrange(len(data))
        self.flipped += 1
        return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1:]

    def write(self, direction, now):
        if self.rate:
            direction.allowance = min(self.rate / 20, direction.allowance + self.rate * 0.003)
        moved = False
        while direction.queue and direction.queue[0][0] <= now:
            due, data = direction.queue[0]
            piece = data if not self.rate else data[:int(direction.allowance)]
            if not piece:
                break
            try:
                count = direction.target.send(piece)
            except BlockingIOError:
                break
            direction.allowance -= count
            direction.queued -= count
            moved = True
            if count < len(data):
                direction.queue[0] = (due, data[count:])
                if self.rate:
                    break
            else:
                direction.queue.pop(0)
        return moved

    def drop(self, pair):
        if pair in self.pairs:
            self.pairs.remove(pair)
        for direction in pair:
            try:
                direction.source.close()
            except OSError:
                pass
