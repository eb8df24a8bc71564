"""ZMTP 3.0 and CVB/1 by hand: what no process of ours would send."""

import os
import socket
import struct
import time

CRC = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    CRC.append(number)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value) if value else b""


def data(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + bytes(value)


HELLO, BEAT, GET = (0x0101, 16), (0x0104, 19), (0x0401, 64)
COMPLETE, SUBMIT = (0x0305, 52), (0x0201, 32)
CANCEL, CLIENT_HELLO = (0x0207, 38), (0x020B, 42)


def frame(kind, body, session, sequence=1, epoch=0, reply=0, crc=None, version=1, length=None):
    """A control frame; what is given wrong stays wrong."""
    inner = data(1, session) + number(2, sequence) + number(3, epoch) + number(4, reply) + data(kind[1], body)
    head = b"CVB1" + bytes([version, 0]) + struct.pack("<HI", kind[0], len(inner) if length is None else length)
    return head + struct.pack("<I", crc32c(head + inner) if crc is None else crc) + inner


def hello(worker, stage, session, sequence=1):
    body = data(1, worker) + data(2, data(1, stage)) + number(3, 1) + number(6, 0) + data(7, b"none") + number(8, 1)
    return frame(HELLO, body, session, sequence)


def beat(session, sequence, epoch=0, free=0):
    return frame(BEAT, number(1, free), session, sequence, epoch)


class Peer:
    """A DEALER over TCP or a Unix socket, NULL mechanism."""

    def __init__(self, address, kind=b"DEALER", handshake=True, timeout=5):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.buffer = b""
        if handshake:
            greeting = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
            ready = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
            self.socket.sendall(greeting + bytes([4, len(ready)]) + ready)
            self.exactly(64)
            self.part()

    def close(self):
        self.socket.close()

    def exactly(self, count):
        while len(self.buffer) < count:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError("closed by the other side")
            self.buffer += piece
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def part(self):
        """(flags, bytes) of the next ZMTP frame."""
        flags = self.exactly(1)[0]
        size = struct.unpack(">Q", self.exactly(8))[0] if flags & 2 else self.exactly(1)[0]
        return flags, self.exactly(size)

    def receive(self, timeout=5):
        """The frames of the next message; pings are answered."""
        self.socket.settimeout(timeout)
        frames = []
        while True:
            flags, body = self.part()
            if flags & 4:
                if body[:5] == b"\x04PING":
                    self.command(b"\x04PONG" + body[7:])
                continue
            frames.append(body)
            if not flags & 1:
                return frames

    def command(self, body):
        self.socket.sendall(bytes([4, len(body)]) + body)

    def send(self, *frames):
        out = b""
        for index, body in enumerate(frames):
            more = 1 if index + 1 < len(frames) else 0
            size = bytes([more, len(body)]) if len(body) < 256 else bytes([more | 2]) + struct.pack(">Q", len(body))
            out += size + body
        self.socket.sendall(out)

    def is_closed(self, within=5):
        """Whether the other side hangs up."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                if not self.socket.recv(65536):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False


def session():
    return os.urandom(16)
