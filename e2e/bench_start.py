"""What the start of a worker costs, with confinement and without: wall and CPU time from its start until it is ready for a job.

    INGRESS_BIN=… python e2e/bench_start.py [RUNS]
"""

import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from rig.stack import ingress_binary


def until_ready(sock):
    """Reads the worker's first two messages, which are its version and that it is warm (crates/ipc)."""
    got = b""
    while True:
        at, messages = 0, 0
        while len(got) >= at + 8:
            header, payload = struct.unpack_from("<II", got, at)
            at += 8 + header + payload
            messages += header > 0 and len(got) >= at
        if messages >= 2:
            return
        more = sock.recv(4096)
        if not more:
            raise RuntimeError("the worker ended")
        got += more


def start(mode, registry):
    """Wall and CPU seconds of one start."""
    ours, theirs = socket.socketpair()
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "MALLOC_ARENA_MAX": "2", "GST_REGISTRY": registry}
    environment |= {"GST_REGISTRY_UPDATE": "no", "GST_REGISTRY_FORK": "no"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen([ingress_binary(), "worker", "transcode", mode], stdin=theirs, env=environment)
    theirs.close()
    until_ready(ours)
    wall = time.monotonic() - begin
    ours.close()
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as directory:
        registry = f"{directory}/registry"
        begin = time.monotonic()
        subprocess.run([ingress_binary(), "registry"], env={**os.environ, "GST_REGISTRY": registry}, check=True)
        print(f"registry of plugins, once at the start of the service: {time.monotonic() - begin:.2f} s")
        # In turns, so that what else the machine does falls on both.
        modes = {"never": [], "require": []}
        for _ in range(runs):
            for mode, seen in modes.items():
                seen.append(start(mode, registry))
        for mode, seen in modes.items():
            wall, cpu = ([1000 * run[i] for run in seen] for i in (0, 1))
            print(
                f"confinement: {mode:8} ready after {statistics.median(wall):.0f} ms (fastest {min(wall):.0f}), "
                f"CPU until its end {statistics.median(cpu):.0f} ms (least {min(cpu):.0f})"
            )


if __name__ == "__main__":
    main()
