"""Machines made of network namespaces: every byte between them passes through a proxy of ours.

A node's namespace has a loopback and nothing else. Proxies listen inside it on the broker's ports and connect outside,
and listen outside on the port of the node's worker and connect inside. All addresses are 127.0.0.1, each in its own
namespace, so nothing has to be allowed beyond loopback.
"""

import ctypes
import os
import subprocess

from cluster import free_port
from proxy import Proxy

NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Inside:
    """The calling thread is in a network namespace for the length of a `with`; None is where it is already."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        if self.name:
            self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            failed = libc.setns(there, NEWNET)
            os.close(there)
            if failed:
                os.close(self.home)
                raise OSError(ctypes.get_errno(), f"setns {self.name}")

    def __exit__(self, *_):
        if self.name:
            libc.setns(self.home, NEWNET)
            os.close(self.home)


def why_not():
    """Why namespaces cannot be used here; None where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"zc-probe-{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    except OSError as error:
        return f"ip: {error}"
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return made.stderr.strip() or None if made.returncode else None


class Node:
    """A machine with one worker."""

    count = 0

    def __init__(self, context, cluster, stage, number):
        Node.count += 1
        self.name = f"zc-{os.getpid()}-{Node.count}"
        subprocess.run(["ip", "netns", "add", self.name], check=True, capture_output=True)
        context.later(self.close)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        self.port = free_port()
        self.control = Proxy(("127.0.0.1", cluster.control_port), ("127.0.0.1", cluster.control_port), inside=self.name)
        self.store = Proxy(("127.0.0.1", cluster.data_port), ("127.0.0.1", cluster.data_port), inside=self.name)
        self.served = Proxy(("127.0.0.1", self.port), ("127.0.0.1", self.port), target_inside=self.name)
        self.proxies = [self.control, self.store, self.served]
        run = os.path.join(cluster.folder, f"run-{Node.count}")
        self.worker = cluster.worker(
            stage, number, broker=f"tcp://127.0.0.1:{cluster.control_port}", run=run,
            extra=("--data-port", str(self.port), "--advertise-host", "127.0.0.1"),
            prefix=("ip", "netns", "exec", self.name))

    def partition(self, *directions, planes=None):
        """Nothing moves any more in these directions ("up" = from the node's side of the connection's client)."""
        for proxy in planes or self.proxies:
            proxy.stalled = set(directions or ("up", "down"))

    def heal(self):
        for proxy in self.proxies:
            proxy.stalled = set()

    def close(self):
        for proxy in self.proxies:
            proxy.close()
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True)
