"""What the kernel lets workers do: little, and it is said where a kernel lets them do more."""

import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from conftest import run
from rig import SECRET, Died, Source, Stack, Viewer, wait_for
from rig.no_calls import LANDLOCK, SECCOMP, wrap
from rig.processes import descendants, told
from rig.pulls import AAC, FAST, H264, URL, make, pull

LAYERS = ("files", "tcp", "signals", "calls")
LOGIN = "hush-login"


def workers(stack):
    """Process ids of the workers, by what they are for."""
    found = {}
    for pid in descendants(stack.ingress.pid)[1:]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:  # it has ended meanwhile
            continue
        if b"worker" in words:
            found.setdefault(words[2].decode(), []).append(pid)
    return found


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def strange_descriptors(pid):
    """What a worker holds open that is none of: standard streams, sockets and pipes of its own, GStreamer's registry, its own tasks,
    plugins, and a temporary file without a name."""
    strange = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        to = os.readlink(f"/proc/{pid}/fd/{fd}")
        known = ("socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:gstreamer-registry", f"/proc/{pid}/task", "/usr/lib", "/lib")
        if not to.startswith(known) and not (to.startswith("/tmp/") and to.endswith("(deleted)")):
            strange.append(to)
    return strange


async def test_every_worker_is_confined(stack, web):
    """One that transcodes and one that pulls: no capabilities, no new privileges, all filters, and nothing open that it need not have."""
    make(stack, "minute.mp4", *H264, *AAC, *FAST, seconds=60)
    info = await pull(stack, "confined", f"{web.url}/file/minute.mp4")
    await stack.wait_state(info.ingress_id, "PUBLISHING", 20)
    found = workers(stack)
    assert set(found) >= {"transcode", "demux-url"}, found
    for kind, pids in found.items():
        for pid in pids:
            # One that has just been started to wait is not through with it yet.
            wait_for(f"filters of {kind}", 20, lambda: status(pid).get("Seccomp_filters", "4") == "4")
            said = status(pid)
            assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2"), kind
            for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                assert int(said[capabilities], 16) == 0, (kind, capabilities)
            assert strange_descriptors(pid) == [], kind
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert "Max core file size        0 " in limits and "Max open files            256 " in limits
    assert status(stack.ingress.pid)["NoNewPrivs"] == "1"
    for layer in LAYERS:
        assert stack.metric("ingress_worker_confinement", layer=layer) == 1, layer
    assert "workers are confined" in stack.ingress.text()
    await stack.delete(info.ingress_id)


async def test_the_end_by_confinement_is_named(stack):
    """As if a worker had asked for what none needs: said in the log, counted, and a short freeze like any other crash."""
    info = await stack.create("sigsys")
    source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "sigsys.log", size=(320, 180)).start()
    try:
        async with Viewer(stack, "sigsys") as viewer:
            await viewer.wait_numbers(10)
            before = stack.metric("ingress_worker_confinement_kills_total")
            killed = workers(stack)["transcode"]
            for pid in killed:
                os.kill(pid, signal.SIGSYS)
            seen = max(viewer.numbers())
            await viewer.wait_numbers(10, over=seen + 10)
        assert stack.metric("ingress_worker_confinement_kills_total") == before + len(killed)
        assert "ended by its own confinement" in stack.ingress.text()
    finally:
        await source.stop()


async def test_workers_are_told_no_secret(own_stack, monkeypatch):
    """Nothing of the configuration, though it came through the environment: not in arguments, not in an environment."""
    own_stack.ingress_yaml = f'url_aliases: {{hidden: "http://user:{LOGIN}@127.0.0.1:9/x"}}'
    own_stack.start_redis()
    own_stack.start_livekit()
    body = own_stack.ingress_config()
    monkeypatch.setenv("INGRESS_CONFIG_BODY", body)
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    own_stack.start_ingress()
    info = await own_stack.create("told")
    source = Source(f"{own_stack.rtmp_url}/{info.stream_key}", own_stack.dir / "told.log", size=(320, 180)).start()
    try:
        await own_stack.wait_state(info.ingress_id, "PUBLISHING", 20)
        pulled = await own_stack.create("pulled", input_type=URL, url="https://alias.invalid/hidden")
        secrets = [word.encode() for word in (SECRET, LOGIN, info.stream_key)]
        seen = set()
        # The one that pulls lives for as long as its source is tried.
        for _ in range(100):
            for kind, pids in workers(own_stack).items():
                for pid in pids:
                    try:
                        seen_there = told(pid)
                    except (FileNotFoundError, ProcessLookupError):
                        continue
                    assert not [word for word in secrets if word in seen_there], kind
                    assert b"INGRESS_" not in seen_there and b"LIVEKIT_" not in seen_there, kind
                    seen.add(kind)
            if {"transcode", "demux-url"} <= seen:
                break
            await asyncio.sleep(0.02)
        assert {"transcode", "demux-url"} <= seen, seen
        await own_stack.delete(pulled.ingress_id)
    finally:
        await source.stop()


# where a kernel lacks something --------------------------------------------------------------------------------------------


async def test_a_kernel_without_landlock_is_named(own_stack):
    """By default the service starts all the same, says once what is missing, and works."""
    own_stack.ingress_yaml = "confinement: auto"
    own_stack.wrap = wrap(errno.ENOSYS, LANDLOCK)
    own_stack.start()
    lines = [line for line in own_stack.ingress.text().splitlines() if "Landlock" in line]
    assert len(lines) == 1 and "not wholly confined" in lines[0] and "can read what this user may read" in lines[0], lines
    assert [own_stack.metric("ingress_worker_confinement", layer=layer) for layer in LAYERS] == [0, 0, 0, 1]
    info = await own_stack.create("old")
    source = Source(f"{own_stack.rtmp_url}/{info.stream_key}", own_stack.dir / "old.log", size=(320, 180)).start()
    try:
        async with Viewer(own_stack, "old") as viewer:
            await viewer.wait_numbers(10)
        # Its own filters, behind the one that imitates the kernel.
        assert {status(pid)["Seccomp_filters"] for pids in workers(own_stack).values() for pid in pids} <= {"4", "5"}
    finally:
        await source.stop()
    lines = [line for line in own_stack.ingress.text().splitlines() if "Landlock" in line]
    assert len(lines) == 1, "no line for each worker"


@pytest.mark.parametrize("missing", [LANDLOCK, SECCOMP], ids=["landlock", "seccomp"])
def test_require_refuses_to_start(own_stack, missing):
    own_stack.wrap = wrap(errno.EPERM, missing)
    own_stack.start_redis()
    with pytest.raises(Died):
        own_stack.start_ingress()
    text = own_stack.ingress.text()
    assert "confinement: require is set, and workers can't be confined" in text, text
    assert ("Landlock" if missing is LANDLOCK else "seccomp") in text, text


async def test_never_leaves_them_alone_and_says_so():
    """For debuggers."""
    for stack in run(Stack("confinement: never")):
        stack.start()
        wait_for("a worker", 20, lambda: "transcode" in workers(stack))
        pid = workers(stack)["transcode"][0]
        assert (status(pid)["NoNewPrivs"], status(pid)["Seccomp"]) == ("0", "0")
        assert "workers are not confined (confinement: never)" in stack.ingress.text()
        assert [stack.metric("ingress_worker_confinement", layer=layer) for layer in LAYERS] == [0, 0, 0, 0]
