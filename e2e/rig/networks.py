"""Networks of their own: with two ways to here that can be taken away, as of a laptop that leaves its Wi-Fi; with one way that lets little
through, as of an office; without IPv4."""

import contextlib
import ctypes
import os
import socket
import subprocess

CLONE_NEWNET = 0x40000000


class TwoWays:
    """A network namespace with `eth0` and `eth1`, both of which lead to `address`; the first is taken while it is there. Needs
    root. `with TwoWays() as ways:`, and all is gone again afterwards."""

    # RFC 2544's addresses for tests of networks: nobody has them. Ours, and the one in there, on the first way.
    address, inner = "198.18.0.1", "198.18.0.2"
    ways = 2
    loopback = "127.0.0.1"

    def __init__(self):
        self.name = f"ingress-e2e-{os.getpid()}"
        self.ours = [f"ie{os.getpid()}-{i}" for i in range(self.ways)]

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
                self._address(i, ours)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _address(self, i, ours):
        self._ip("addr", "add", f"198.18.{i}.1/24", "dev", ours)
        self._ip("link", "set", ours, "up")
        self.inside("addr", "add", f"198.18.{i}.2/24", "dev", f"eth{i}")
        self.inside("link", "set", f"eth{i}", "up")
        self.inside("route", "add", "default", "via", f"198.18.{i}.1", "metric", str(100 + i))

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


class Fence(TwoWays):
    """A network namespace with one way out, on which a packet filter drops all that is not let through by name."""

    ways = 1

    def allow(self, to=(), at=()):
        """Lets through connections to these ports out here, and to these in there, each as ("tcp" or "udp", number); nothing else from
        now on."""
        rules = [("OUTPUT", "-o", "lo"), ("INPUT", "-i", "lo")]
        for (out, back), ports in ((("--dport", "--sport"), to), (("--sport", "--dport"), at)):
            for kind, port in ports:
                rules += [("OUTPUT", "-p", kind, out, str(port)), ("INPUT", "-p", kind, back, str(port))]
        for rule in rules:
            self._filter("-A", *rule, "-j", "ACCEPT")
        for chain in ("OUTPUT", "INPUT", "FORWARD"):
            self._filter("-P", chain, "DROP")

    def _filter(self, *words):
        done = subprocess.run(self.command(["iptables", "-w", *words]), capture_output=True, text=True, timeout=10)
        if done.returncode:
            raise RuntimeError(f"no packet filter for the network namespace: iptables {' '.join(words)}: {done.stderr.strip()}")


class OnlySix(TwoWays):
    """A network namespace without any IPv4, not even on loopback, and the way to it from here."""

    # RFC 4193's, of a network that nobody has.
    address, inner = "fd00:1098:18::1", "fd00:1098:18::2"
    ways = 1
    loopback = "[::1]"

    def _address(self, i, ours):
        self._ip("addr", "add", f"{self.address}/64", "dev", ours, "nodad")
        self._ip("link", "set", ours, "up")
        self.inside("addr", "del", "127.0.0.1/8", "dev", "lo")
        self.inside("addr", "add", f"{self.inner}/64", "dev", f"eth{i}", "nodad")
        self.inside("link", "set", f"eth{i}", "up")
