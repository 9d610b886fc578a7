"""H.264 that fits the room goes out as it comes: seen by its picture numbers and its very pictures, to the viewers it is for, with
B-frames, bitrate and key frames that begin and cease to fit in mid-stream, and with viewers who come in between."""

import asyncio
import re
import subprocess
import time

import numpy as np
import pytest

from conftest import run
from rig import Feeder, Stack, Viewer, flv, numbered_clip, wait_for
from rig.picture import read

RATE, SIZE = 25, (640, 360)
# The highest layer of this size has 0.67 Mbit/s, and half as much again passes.
FITS = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-bf", "0", "-g", "50", "-keyint_min", "50", "-sc_threshold", "0",
        "-b:v", "600k", "-maxrate", "600k", "-bufsize", "600k", "-pix_fmt", "yuv420p"]


def but(**options):
    """FITS with these options in place of its own."""
    coding = list(FITS)
    for name, value in options.items():
        key = "-" + re.sub("_([vab])$", r":\1", name)
        coding = [*coding[: coding.index(key) + 1], value, *coding[coding.index(key) + 2 :]] if key in coding else [*coding, key, value]
    return coding


class Pictures(Viewer):
    """Keeps the luma of the pictures it sees, by their number."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.luma = {}

    def saw(self, frame):
        number = self.frames[-1].number
        if number is not None and (frame.width, frame.height) == SIZE:
            self.luma[number] = np.frombuffer(frame.data, np.uint8, frame.width * frame.height).copy()


def decoded(clip):
    """The luma of each picture of a clip, by the number that it shows."""
    command = ["ffmpeg", "-v", "error", "-i", str(clip), "-map", "0:v", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    pixels = SIZE[0] * SIZE[1]
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, pixels * 3 // 2)[:, :pixels]
    return {read(luma.reshape(SIZE[1], SIZE[0])): luma for luma in pictures}


def psnr(a, b):
    error = np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips by name, numbered on from each other."""
    top = tmp_path_factory.mktemp("passing")

    def make(name, seconds, first=0, coding=FITS):
        return numbered_clip(top / f"{name}.flv", seconds, size=SIZE, fps=RATE, first=first, coding=coding)

    return make


def passing(stack):
    return stack.metric("ingress_passthrough_sessions") > 0


def changes(stack, to, reason):
    return stack.metric("ingress_passthrough_changes_total", to=to, reason=reason)


async def until(condition, seconds, what):
    await asyncio.to_thread(wait_for, what, seconds, condition, 0.05)


@pytest.fixture(scope="module")
def alone():
    """A stack of our own: its metrics are of the session at hand."""
    for s in run(Stack()):
        yield s.start()


async def test_pictures_come_as_they_were_sent(alone, clips):
    """From the second or third GOP on viewers get the source's very pictures, in order and without a gap at the change."""
    stack, clip = alone, clips("plain", 16)
    info = await stack.create("plain")
    async with Pictures(stack, "plain") as viewer, Feeder(stack, info.stream_key) as feeder:
        feeding = asyncio.create_task(feeder.play(flv.read(clip)))
        await until(lambda: passing(stack), 8, "passed through")
        begun = max(viewer.numbers() or [0])
        await viewer.wait("pictures that were passed", lambda v: v.numbers() and v.numbers()[-1] > begun + 75)
        await feeding
    source = decoded(clip)
    numbers = viewer.numbers()
    assert numbers == sorted(numbers), numbers
    late = [n for n in numbers if n > 30]
    assert len(set(late)) >= 0.97 * (late[-1] - late[0]), f"{len(set(late))} of {late[-1] - late[0]}"
    # What is passed is what the source's decoder shows; what was encoded again is not.
    begun += 10
    # The first number is shown twice.
    quality = {n: psnr(viewer.luma[n], source[n]) for n in sorted(viewer.luma) if n in source and n > 0}
    passed = [q for n, q in quality.items() if n > begun]
    assert len(passed) > 60 and min(passed) > 45, sorted((round(q), n) for n, q in quality.items())[:20]
    assert any(q < 45 for n, q in quality.items() if n < 40), "the first GOP was encoded: the comparison tells them apart"
    assert "it is not encoded again" in stack.ingress.text()


CHANGES = {
    "b_frames": but(bf="2"),
    "bitrate": but(b_v="3M", maxrate="3M", bufsize="1M", preset="ultrafast"),
    "key_interval": but(g="500", keyint_min="500"),
    "profile": but(profile_v="high422", pix_fmt="yuv422p"),
}


@pytest.mark.parametrize("reason", CHANGES)
async def test_what_ceases_to_fit_is_encoded_again(alone, clips, reason):
    """In mid-stream the source ceases to fit: the encoder takes over. No picture is broken or out of order, and the viewer sees no freeze."""
    stack = alone
    first, second = clips(f"before-{reason}", 8), clips(reason, 10, first=8 * RATE, coding=CHANGES[reason])
    info = await stack.create(f"ceases-{reason}")
    before = changes(stack, "encoder", "chroma" if reason == "profile" else reason)
    async with Pictures(stack, f"ceases-{reason}") as viewer, Feeder(stack, info.stream_key) as feeder:
        await feeder.play(flv.read(first))
        assert await asyncio.to_thread(passing, stack), "it was passed through before"
        began = time.monotonic()
        feeding = asyncio.create_task(feeder.play(flv.read(second), number=8 * RATE, stamp=lambda t: t + 8000))
        await until(lambda: changes(stack, "encoder", "chroma" if reason == "profile" else reason) > before, 8, f"encoded for {reason}")
        await viewer.wait("pictures of the second part", lambda v: v.numbers() and v.numbers()[-1] > 8 * RATE + 75)
        gap = viewer.longest_gap(began)
        await feeding
    numbers = viewer.numbers()
    assert numbers == sorted(numbers), numbers
    source = {**decoded(first), **decoded(second)}
    # The first number of each part is that of two pictures.
    worst = min((psnr(viewer.luma[n], source[n]), n) for n in viewer.luma if n in source and n not in (0, 8 * RATE))
    assert worst[0] > 22, f"a broken picture: {worst}"
    assert gap < 0.6, f"the viewer saw a gap of {gap:.2f} s"


async def test_viewers_who_come_between_key_frames(alone, clips):
    """Key frames are 3.2 s apart; viewers who come in between see the highest layer at once, and those who were there see no gap."""
    stack, clip = alone, clips("late", 30, coding=but(g="80", keyint_min="80"))
    info = await stack.create("late")
    firsts = []
    async with Viewer(stack, "late") as viewer, Feeder(stack, info.stream_key) as feeder:
        feeding = asyncio.create_task(feeder.play(flv.read(clip)))
        await until(lambda: passing(stack), 12, "passed through")
        began = time.monotonic()
        for n in range(4):
            await asyncio.sleep(1.3)
            joined = time.monotonic()
            async with Viewer(stack, "late", identity=f"late-{n}") as late:
                await late.wait_size(*SIZE, seconds=3)
                firsts.append(time.monotonic() - joined)
        gap = viewer.longest_gap(began)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    assert changes(stack, "encoder", "key_frame") > 0, "an encoder bridged"
    assert sorted(firsts)[len(firsts) // 2] < 1.5, firsts
    assert viewer.numbers() == sorted(viewer.numbers()), viewer.numbers()
    assert gap < 0.6, f"who was there saw a gap of {gap:.2f} s"


async def test_never_is_never(clips):
    for stack in run(Stack("passthrough: never\n")):
        stack.start()
        info = await stack.create("never")
        async with Viewer(stack, "never") as viewer, Feeder(stack, info.stream_key) as feeder:
            await feeder.play(flv.read(clips("never", 7)))
            await viewer.wait_numbers(30)
        assert not passing(stack) and "not encoded again" not in stack.ingress.text()
