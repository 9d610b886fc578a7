"""A network of its own for a client, with two ways to here that can be taken away: a laptop that leaves its Wi-Fi."""

import contextlib
import ctypes
import os
import socket
import subprocess

CLONE_NEWNET = 0x40000000


class TwoWays:
    """A network namespace with `eth0` and `eth1`, both of which lead to `address`; the first is taken while it is there. Needs
    root. `with TwoWays() as ways:`, and all is gone again afterwards."""

    # RFC 2544's addresses for tests of networks: nobody has them.
    address = "198.18.0.1"

    def __init__(self):
        self.name = f"ingress-e2e-{os.getpid()}"
        self.ours = [f"ie{os.getpid()}-{i}" for i in range(2)]

    def _ip(self, *words):
        done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10)
        if done.returncode:
            raise RuntimeError(f"no network namespace for the client (needs root and NET_ADMIN): ip {' '.join(words)}: {done.stderr.strip()}")

    def inside(self, *words):
        self._ip("-n", self.name, *words)

    def __enter__(self):
        try:
            self._ip("netns", "add", self.name)
            self.inside("link", "set", "lo", "up")
            for i, ours in enumerate(self.ours):
                self._ip("link", "add", ours, "type", "veth", "peer", "name", f"eth{i}", "netns", self.name)
                self._ip("addr", "add", f"198.18.{i}.1/24", "dev", ours)
                self._ip("link", "set", ours, "up")
                self.inside("addr", "add", f"198.18.{i}.2/24", "dev", f"eth{i}")
                self.inside("link", "set", f"eth{i}", "up")
                self.inside("route", "add", "default", "via", f"198.18.{i}.1", "metric", str(100 + i))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc):
        # Their other ends go with them.
        for ours in self.ours:
            with contextlib.suppress(RuntimeError):
                self._ip("link", "del", ours)
        with contextlib.suppress(RuntimeError):
            self._ip("netns", "del", self.name)

    def take_down(self, way):
        """As when a cable is pulled: address and routes go with it."""
        self.inside("link", "set", way, "down")

    def command(self, command):
        """What runs `command` in there."""
        return ["ip", "netns", "exec", self.name, *command]

    def socket(self, family, kind, protocol):
        """A socket in there, for us."""
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{self.name}") as there:
            self._enter(there)
            try:
                return socket.socket(family, kind, protocol)
            finally:
                self._enter(here)

    @staticmethod
    def _enter(namespace):
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
