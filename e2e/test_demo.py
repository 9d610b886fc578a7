"""`./x demo`, as a newcomer runs it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

DEMO = Path(__file__).with_name("demo.py")
TOP = DEMO.parent.parent


@contextlib.contextmanager
def running(tmp_path, *arguments, command=(sys.executable, DEMO)):
    """The demo; its programs inherit a mark that we can find them by. Whatever is left of it in the end is killed."""
    env = {**os.environ, "TMPDIR": str(tmp_path), "DEMO_MARK": str(tmp_path)}
    demo = subprocess.Popen(
        [*command, *arguments], cwd=TOP, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )
    try:
        yield demo
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)
        demo.wait()


def left_behind(tmp_path):
    """Processes with our mark, and files."""
    mark, found = f"DEMO_MARK={tmp_path}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found + list(tmp_path.iterdir())


def test_demo_shows_the_viewer_and_leaves_nothing(tmp_path):
    with running(tmp_path, "--seconds", "12", command=[TOP / "x", "demo"]) as demo:
        said, _ = demo.communicate(timeout=80)
    assert demo.returncode == 0, said
    assert re.search(r"Server +rtmp://127\.0\.0\.1:\d+/live", said), said
    assert re.search(r"Stream Key +\S{8,}", said), said
    assert re.search(r"https://meet\.livekit\.io/custom\?liveKitUrl=ws%3A%2F%2F\S+&token=\S+", said), said
    assert re.search(r"PUBLISHING +\d+x\d+ +\d+\.\d fps +delay \d+ ms +sound level \d+", said), said
    assert left_behind(tmp_path) == []


def test_demo_waits_for_an_encoder_until_ctrl_c(tmp_path):
    said, end = "", time.monotonic() + 60
    with running(tmp_path, "--no-source") as demo:
        while "no picture" not in said:
            assert time.monotonic() < end and (line := demo.stdout.readline()), said
            said += line
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=30)
    assert demo.returncode == 0, said + rest
    assert left_behind(tmp_path) == []


def test_demo_names_its_fault(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path), "INGRESS_BIN": "/bin/false"}
    demo = subprocess.run([sys.executable, DEMO], cwd=TOP, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert demo.returncode == 1
    assert "ingress ended with exit code 1 while it started" in demo.stdout
    assert list(tmp_path.iterdir()) == []
