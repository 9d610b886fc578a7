"""Processes with a log each, and ports nobody else has."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

# Below the range that Linux gives to outgoing connections (32768 up), so that no connection takes a port between our look
# and the server's bind.
PORTS = range(20000, 32000)


class Died(RuntimeError):
    """A program ended, or did not come up in time; the text holds the end of its log."""


def _is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as s:
            if kind == socket.SOCK_STREAM:  # as servers do, so that a port in TIME_WAIT counts as free
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True


def free_ports(count, wanted=()):
    """`count` different ports, free for TCP and UDP: each of `wanted` where it is free, another where it is not."""
    ports = []
    for i in range(count):
        candidate = wanted[i] if i < len(wanted) else None
        while candidate is None or candidate in ports or not _is_free(candidate):
            candidate = random.choice(PORTS)
        ports.append(candidate)
    return ports


def wait_for(what, seconds, condition, pause=0.02):
    """Waits until `condition()` is true and returns what it gave; RuntimeError in words after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(pause)


class Program:
    """A program that runs beside us, its output in a log file."""

    def __init__(self, name, command, log: Path, env=None):
        self.name, self.log = name, log
        # Should we be killed without a chance to clean up, the kernel ends it for us.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [*guard, *map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, **(env or {})}, start_new_session=True,
            )

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def text(self):
        return self.log.read_text(errors="replace")

    def tail(self, lines=15):
        return "\n".join(self.text().splitlines()[-lines:])

    def died(self, what):
        return Died(f"{self.name} {what}. The end of its log:\n{self.tail()}")

    def wait_port(self, port, seconds=20, host="127.0.0.1"):
        """Waits until the program listens on `port` of `host`."""

        def listening():
            if not self.running():
                raise self.died(f"ended with exit code {self.process.returncode} while it started")
            try:
                socket.create_connection((host, port), 0.5).close()
                return True
            except OSError:
                return False

        try:
            wait_for(f"port {port}", seconds, listening)
        except Died:
            raise
        except RuntimeError:
            raise self.died(f"does not listen on port {port} after {seconds} s") from None

    def wait_log(self, words, seconds=5):
        """Waits until `words` stand in the log, in any letter case; returns the line."""

        def seen():
            return next((line for line in self.text().splitlines() if words.lower() in line.lower()), None)

        return wait_for(f'"{words}" in the log of {self.name}', seconds, seen)

    def signal(self, number):
        if self.running():
            self.process.send_signal(number)

    def wait_exit(self, seconds):
        """The exit code, or Died if it is still running after `seconds`."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.died(f"is still running after {seconds} s") from None

    def end(self, grace=5):
        """Ends the program and whatever is left in its session; by force after `grace` seconds."""
        if self.running():
            self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self):
        """Ends the program and its session at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def descendants(pid):
    """`pid` and every process below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def waited_for_cpu(pids):
    """How long each thread of these processes has wanted to run and had no CPU (proc(5), schedstat), in seconds by process and thread:
    what others on this machine have cost it."""
    found = {}
    for pid in pids:
        for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                found[pid, schedstat.parent.name] = int(schedstat.read_text().split()[1]) / 1e9
            except (OSError, IndexError):  # it has ended, or the kernel does not count
                continue
    return found


def told(pid):
    """The arguments and the environment of a process; of one that hides from its own user only the arguments, unless that is root."""
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    try:
        return arguments + Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return arguments


def own_pss(pid):
    """PSS in MiB of one process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def cpu_seconds(pid):
    """CPU that a process has used so far; OSError if it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def usage(pid):
    """CPU seconds so far, PSS in MiB, processes and threads of `pid` and all below it. Only root may look into the ingress's memory: for
    others PSS is no number."""
    cpu = pss = threads = 0
    pids = descendants(pid)
    for p in pids:
        try:
            cpu += cpu_seconds(p)
            threads += len(os.listdir(f"/proc/{p}/task"))
            pss += own_pss(p)
        except PermissionError:
            pss = float("nan")
        except OSError:
            pass
    return dict(cpu=cpu, pss=pss, processes=len(pids), threads=threads)
