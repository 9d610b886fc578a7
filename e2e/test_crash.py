"""What happens when a transcoder child fails in the middle of a stream: a short freeze in one room, and nothing else."""

import asyncio
import contextlib
import ctypes
import itertools
import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from rig import Source, Viewer
from rig.processes import descendants, wait_for, waited_for_cpu


def transcoders(stack):
    """Process ids of the ingress's children that transcode, also of one that waits for a session."""
    return [
        pid for pid in descendants(stack.ingress.pid)[1:]
        if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def starve(pid):
    """Gives a process no memory beyond what it has: it is as if the machine or its cgroup had none left. It notices once it wants some."""
    resource.prlimit(pid, resource.RLIMIT_DATA, (1 << 20, 1 << 20))


PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_CONT = 0x4206, 0x4207, 7
WALL = 0x40000000  # __WALL of waitpid(2): also for threads


def hold_decoder(pid):
    """Stops the thread that decodes, and no other, in the middle of its work: it is as if it waited for a lock for ever."""
    libc = ctypes.CDLL(None, use_errno=True)

    def trace(request, thread):
        if libc.ptrace(ctypes.c_long(request), ctypes.c_int(thread), ctypes.c_void_p(), ctypes.c_void_p()):
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")

    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() != "video":
            continue
        thread = int(task.name)
        trace(PTRACE_SEIZE, thread)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if "R" not in (task / "stat").read_text().rsplit(") ", 1)[1][:1]:
                continue
            trace(PTRACE_INTERRUPT, thread)
            os.waitpid(thread, WALL)
            # Outside of any call into the system: it waits for no order, and for nothing else.
            if (task / "syscall").read_text().startswith("-1 "):
                # A thread that is traced is not gone before its tracer has been told so.
                threading.Thread(target=os.waitpid, args=(thread, WALL), daemon=True).start()
                return
            trace(PTRACE_CONT, thread)
        raise AssertionError("the decoder was not seen at work")


HARM = {
    "killed": lambda pid: os.kill(pid, signal.SIGKILL),
    "hung": lambda pid: os.kill(pid, signal.SIGSTOP),
    "out of memory": starve,
    "deadlocked": hold_decoder,
}


# A stream that passes through as the highest layer of 640x360. A viewer who comes between its key frames makes an encoder begin anew, which
# is sure to want memory; one that works on may do for minutes with what it has.
FITS = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-bf", "0", "-g", "90", "-sc_threshold", "0", "-pix_fmt", "yuv420p",
        "-b:v", "600k", "-maxrate", "600k", "-bufsize", "600k"]


@contextlib.asynccontextmanager
async def memory_wanted(stack, room, how):
    """Until this ends, the transcoder wants memory again and again, where it has none."""

    async def come_and_go():
        for n in itertools.count():
            async with Viewer(stack, room, f"late-{n}"):
                await asyncio.sleep(0.7)

    coming = asyncio.create_task(come_and_go()) if how == "out of memory" else None
    try:
        yield
    finally:
        if coming:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


PROMISED = 1.0  # seconds without a picture, at most


LOOK_EVERY = 0.1


class Freeze:
    """How long a viewer sees no picture within this block, at the most, and what of that may be this machine's fault: for `starved` seconds
    meanwhile those who take part wanted to run and had no CPU, each counted by its thread that had it worst."""

    def __init__(self, stack, source, viewer):
        self.stack, self.source, self.viewer, self.looks = stack, source, viewer, []

    async def __aenter__(self):
        self.look()
        self.began = self.looks[0][0]
        self.task = asyncio.create_task(self.watch())
        return self

    async def __aexit__(self, *exc):
        self.task.cancel()
        self.look()
        times = [f.at for f in self.viewer.frames]
        gaps = [(max(a, self.began), b) for a, b in zip(times, times[1:]) if b > self.began]
        begin, end = max(gaps, key=lambda gap: gap[1] - gap[0])
        self.longest = end - begin
        before = [waited for at, waited in self.looks if at <= begin][-1]
        after = next(waited for at, waited in self.looks if at >= end)
        worst = {}
        for (process, thread), seconds in after.items():
            worst[process] = max(worst.get(process, 0.0), seconds - before.get((process, thread), 0.0))
        self.starved = sum(worst.values())

    async def watch(self):
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()

    def look(self):
        parts = [os.getpid(), self.source.process.pid, self.stack.livekit.pid, *descendants(self.stack.ingress.pid)]
        self.looks.append((time.monotonic(), waited_for_cpu(parts)))


async def test_a_waiting_transcoder_that_dies_is_replaced(stack):
    """Also while no session comes."""
    wait_for("one that waits", 20, lambda: transcoders(stack))
    before = set(transcoders(stack))
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(wait_for, "another that waits", 20, lambda: set(transcoders(stack)) - before)


@pytest.mark.core
@pytest.mark.parametrize("how", HARM)
async def test_a_failing_transcoder_is_a_short_freeze(stack, reports, how):
    """The participant, its tracks and the encoder stay, pictures and sound come again, the state stays, and it is counted."""
    room = how.replace(" ", "-")
    info = await stack.create(room)
    passing = stack.metric("ingress_passthrough_sessions")
    coding = FITS if how == "out of memory" else None
    source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / f"{room}.log", size=(640, 360), coding=coding).start()
    try:
        async with Viewer(stack, room) as viewer:
            await viewer.wait_size(640, 360)
            await viewer.wait_numbers(20)
            if coding:
                await viewer.wait("passed picture", lambda v: stack.metric("ingress_passthrough_sessions") > passing)
            # livekit-server may list its last track a second later.
            before = await stack.wait_participant(room, f"{room}-pub", tracks=2)
            restarts = stack.metric("ingress_transcoder_restarts_total")
            for pid in transcoders(stack):
                # Beside this loop, which feeds the source; in one thread, as a tracer is one.
                await asyncio.to_thread(HARM[how], pid)
            seen = len(viewer.frames)
            async with Freeze(stack, source, viewer) as freeze, memory_wanted(stack, room, how):
                await viewer.wait("restart", lambda v: stack.metric("ingress_transcoder_restarts_total") > restarts)
                await viewer.wait("picture", lambda v: len(v.frames) > seen + 5)
            print(f"{how}: no picture for {freeze.longest * 1000:.0f} ms, without a CPU for {freeze.starved * 1000:.0f} ms")
            await viewer.wait_numbers(30, over=max(n for n in viewer.numbers()) + 15)
            heard = len(viewer.levels)
            await viewer.wait("sound", lambda v: len(v.levels) > heard + 50 and v.levels[-1][1] > 300)
            after = await stack.participant(room, f"{room}-pub")
            assert after.sid == before.sid
            assert {t.sid for t in after.tracks} == {t.sid for t in before.tracks}, "livekit-server lists them in any order"
            assert source.running()
            assert freeze.longest < PROMISED + freeze.starved
        assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING"]
    finally:
        await source.stop()


@pytest.mark.parametrize("how", ["hung", "killed"])
async def test_viewers_keep_the_layer_they_had(own_stack, how):
    """livekit-server keeps viewers off a layer that paused for half a second, for ten seconds, unless it is told better."""
    own_stack.quick = True
    own_stack.start()
    info = await own_stack.create("room")
    source = Source(f"{own_stack.rtmp_url}/{info.stream_key}", own_stack.dir / "source.log", size=(640, 360)).start()
    try:
        async with Viewer(own_stack, "room") as viewer:
            await viewer.wait_size(640, 360)
            await viewer.wait_numbers(30)
            before = len(viewer.frames)
            # Also the one that waits, if it is there yet: then there are two restarts.
            for pid in transcoders(own_stack):
                HARM[how](pid)
            await viewer.wait("restart", lambda _: own_stack.metric("ingress_transcoder_restarts_total") > 0)
            top = lambda: sum(f.width == 640 for f in viewer.frames[before:])
            await viewer.wait("five seconds of the layer", lambda _: top() >= 150)
            lower = len(viewer.frames) - before - top()
            print(f"{how}: {lower} pictures of a lower layer")
            # Two seconds, for machines that stumble; without the word it is eight and more.
            assert lower < 60
    finally:
        await source.stop()


async def test_three_crashes_end_the_session(stack, reports):
    info = await stack.create("crashes")
    source = Source(f"{stack.rtmp_url}/{info.stream_key}", stack.dir / "crashes.log", size=(320, 180)).start()
    try:
        async with Viewer(stack, "crashes") as viewer:
            killed = set()
            for turn in range(3):
                seen = max(viewer.numbers(), default=-1)
                await viewer.wait_numbers(5, over=seen)
                # Pictures that were on their way come from the one before.
                await viewer.wait("another transcoder", lambda v: set(transcoders(stack)) - killed)
                for pid in set(transcoders(stack)) - killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                if turn < 2:
                    await viewer.wait("picture again", lambda v: any(n > seen + 20 for n in v.numbers()))
            state = await stack.wait_state(info.ingress_id, "ERROR")
        assert "crashed 3 times within a minute" in state.error
        await asyncio.to_thread(source.process.wait, 15)
        await stack.wait_participant("crashes", "crashes-pub", here=False)
        assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "ERROR"]
    finally:
        await source.stop()
