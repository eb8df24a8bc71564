"""Peers behind CURVE, as libzmq itself makes them: with a key of ours or of nobody, with the wrong server, without."""

import ctypes
import time

DEALER, DONTWAIT, SNDMORE = 5, 1, 2
LINGER, RECONNECT_IVL, PLAIN_USERNAME, PLAIN_PASSWORD = 17, 18, 45, 46
RCVMORE, CURVE_PUBLICKEY, CURVE_SECRETKEY, CURVE_SERVERKEY = 13, 48, 49, 50

zmq = ctypes.CDLL("libzmq.so.5", use_errno=True)
zmq.zmq_ctx_new.restype = zmq.zmq_socket.restype = ctypes.c_void_p
zmq.zmq_ctx_term.argtypes = [ctypes.c_void_p]
zmq.zmq_socket.argtypes = [ctypes.c_void_p, ctypes.c_int]
zmq.zmq_setsockopt.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
zmq.zmq_getsockopt.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
zmq.zmq_connect.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
zmq.zmq_send.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
zmq.zmq_recv.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
zmq.zmq_close.argtypes = [ctypes.c_void_p]


def pair():
    """(public, secret) of a new key pair, as text."""
    public, secret = ctypes.create_string_buffer(41), ctypes.create_string_buffer(41)
    if zmq.zmq_curve_keypair(public, secret):
        raise OSError("this libzmq has no CURVE")
    return public.value.decode(), secret.value.decode()


class Context:
    """Sockets of one `with`, all closed at its end."""

    def __enter__(self):
        self.pointer, self.peers = zmq.zmq_ctx_new(), []
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            zmq.zmq_close(peer.socket)
        zmq.zmq_ctx_term(self.pointer)

    def peer(self, endpoint, keys=None, server=None, plain=False):
        """`keys` = (public, secret) with the key of the server that is expected; nothing = NULL; or PLAIN."""
        peer = Peer(zmq.zmq_socket(self.pointer, DEALER))
        peer.set(LINGER, (0).to_bytes(4, "little"))
        peer.set(RECONNECT_IVL, (1000).to_bytes(4, "little"))
        if keys:
            peer.set(CURVE_SERVERKEY, server.encode() + b"\0")
            peer.set(CURVE_PUBLICKEY, keys[0].encode() + b"\0")
            peer.set(CURVE_SECRETKEY, keys[1].encode() + b"\0")
        elif plain:
            peer.set(PLAIN_USERNAME, b"root")
            peer.set(PLAIN_PASSWORD, b"root")
        if zmq.zmq_connect(peer.socket, endpoint.encode()):
            raise OSError(f"zmq_connect {endpoint}")
        self.peers.append(peer)
        return peer


class Peer:
    def __init__(self, socket):
        self.socket = socket

    def set(self, option, value):
        if zmq.zmq_setsockopt(self.socket, option, value, len(value)):
            raise OSError(f"zmq_setsockopt {option}: {ctypes.get_errno()}")

    def send(self, *frames):
        for index, frame in enumerate(frames):
            more = SNDMORE if index + 1 < len(frames) else 0
            zmq.zmq_send(self.socket, frame, len(frame), DONTWAIT | more)

    def receive(self, timeout=5.0):
        """The frames of the next message, None when there is none in time."""
        end, buffer, frames = time.monotonic() + timeout, ctypes.create_string_buffer(1 << 17), []
        while True:
            count = zmq.zmq_recv(self.socket, buffer, len(buffer), DONTWAIT)
            if count < 0:
                if time.monotonic() > end:
                    return None
                time.sleep(0.005)
                continue
            frames.append(buffer.raw[:count])
            more, size = ctypes.c_int(), ctypes.c_size_t(4)
            zmq.zmq_getsockopt(self.socket, RCVMORE, ctypes.byref(more), ctypes.byref(size))
            if not more.value:
                return frames
