"""What a service that runs for long may not have more and more of: looked at again and again, and judged by how it grows."""

import itertools
import os
import statistics
import subprocess
from collections import namedtuple
from pathlib import Path

from .processes import descendants, own_pss

# How often a figure was read: seconds since the beginning, whether nothing was going on, and the figures by name.
Sample = namedtuple("Sample", "at quiet figures")

# Each figure, and by how much it may grow from the end of the warm-up to the end of the run while nothing goes on.
# Memory: an allocator keeps some of what many threads have used at a time; 4 MiB are some 16 kB for each session of half an hour.
ALLOWED = {
    "parent RSS MiB": 4, "parent PSS MiB": 4, "workers PSS MiB": 4, "descriptors": 2, "threads": 2, "workers": 0, "UDP ports": 0,
    "TCP connections": 2, "Redis keys": 0, "Redis subscriptions": 0,
}


# What livekit-server keeps there of rooms, nodes and agents, by the beginnings of the names. It forgets to remove a room that ends while
# Redis is away (seen).
LIVEKIT_SERVERS = ("rooms", "room_node_map", "room_internal", "room_participants:", "nodes", "livekit_version", "agent_")


def sockets(pid):
    """Inodes of the sockets that a process holds."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            to = os.readlink(fd)
        except FileNotFoundError:
            continue
        if to.startswith("socket:["):
            found.add(to[8:-1])
    return found


def table(pid, protocol):
    """The sockets in one of the kernel's tables."""
    lines = [line.split() for name in (protocol, f"{protocol}6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return {fields[9] for fields in lines}


def redis(stack, *words):
    """The lines of Redis' answer; none while it is away."""
    command = ["redis-cli", "-p", str(stack.port["redis"]), *words]
    done = subprocess.run(command, capture_output=True, timeout=10)
    return done.stdout.decode(errors="replace").split("\n")[:-1] if done.returncode == 0 else None


def figures(stack):
    """The figures of `ALLOWED` now; those of Redis, which are without livekit-server's own, only while it is there."""
    pid = stack.ingress.pid
    workers = descendants(pid)[1:]
    held = sockets(pid)
    found = {
        "parent RSS MiB": int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "parent PSS MiB": own_pss(pid),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "workers": len(workers),
        "UDP ports": len(held & table(pid, "udp")),
        "TCP connections": len(held & table(pid, "tcp")),
    }
    pss = 0.0
    for worker in workers:
        try:
            pss += own_pss(worker)
        except (OSError, StopIteration):  # it has ended
            continue
    found["workers PSS MiB"] = pss
    keys, channels = redis(stack, "--scan"), redis(stack, "pubsub", "channels")
    if keys is not None and channels is not None:
        found |= {"Redis keys": sum(not key.startswith(LIVEKIT_SERVERS) for key in keys), "Redis subscriptions": len(channels)}
    return found


def slope(points):
    """Growth a second: the median of the slopes between any two points (Theil and Sen), which single points that lie apart do not move."""
    return statistics.median((b - a) / (u - t) for (t, a), (u, b) in itertools.combinations(points, 2) if u > t)


def growth(points):
    """Growth a second, and from the first to the last. What comes seldom and stays is a step for which there is no slope: it shows as a
    last third that lies above all of the first."""
    a_second, third = slope(points), max(1, len(points) // 3)
    step = min(value for _, value in points[-third:]) - max(value for _, value in points[:third])
    return a_second, max(a_second * (points[-1][0] - points[0][0]), step)


def judge(samples, warm_up):
    """A line for each figure, and those that grow by more than they may. `warm_up` is how many of the quiet samples come before it counts."""
    lines, leaks = {}, []
    for name, allowed in ALLOWED.items():
        quiet = [(s.at, s.figures[name]) for s in samples if s.quiet and name in s.figures]
        busy = [s.figures[name] for s in samples if not s.quiet and name in s.figures]
        warm = quiet[warm_up:]
        a_second, grown = growth(warm) if len(warm) > 1 else (0.0, 0.0)
        lines[name] = dict(
            start=round(quiet[0][1], 1), middle=round(quiet[len(quiet) // 2][1], 1), end=round(quiet[-1][1], 1),
            most_while_busy=round(max(busy), 1) if busy else None, an_hour=round(3600 * a_second, 1), grown=round(grown, 1), may_grow=allowed,
            verdict="leak" if grown > allowed else "ok" if len(warm) > 1 else "too short to tell",
        )
        if lines[name]["verdict"] != "ok":
            leaks.append(name)
    return lines, leaks
