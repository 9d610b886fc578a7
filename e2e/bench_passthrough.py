"""`./x bench --passthrough`: H.264 that fits the room, passed through beside encoded again, in turns: cores, delay, and how soon viewers
who come late see the highest layer."""

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

from livekit.protocol import ingress as pb

from bench_session import WARM_UP, density, ffmpeg, floor, latency
from rig import Push, Stack, Viewer

# A key frame every two seconds and no B-frames; 2.3 Mbit/s is within half as much again as the highest layer's 1.9.
FITS = ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-bf", "0", "-pix_fmt", "yuv420p",
        "-b:v", "2300k", "-maxrate", "2300k", "-bufsize", "2300k", "-sc_threshold", "0"]
ONE_LAYER = pb.IngressVideoOptions(preset=pb.IngressVideoEncodingPreset.H264_720P_30FPS_1_LAYER)
JOINS = 5
# The same of an encoder whose pictures are numbered.
NUMBERED = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "60",
            "-b:v", "2300k", "-maxrate", "2300k", "-bufsize", "1150k"]


def fitting(clip, gop):
    """The film as an encoder sends it that is set up for passthrough."""
    cache = Path(os.environ.get("INGRESS_CACHE", tempfile.gettempdir()))
    made = cache / f"{clip.stem}-fits-{gop}.mp4"
    if not made.exists():
        part = made.with_suffix(".part.mp4")
        ffmpeg("-i", clip, *FITS, "-g", gop, "-keyint_min", gop, "-c:a", "copy", part)
        part.rename(made)
    return made


async def joins(yaml, clip, watched):
    """Viewers who come one after the other, 1.7 s apart: from the start of a join to the first picture, and to the first of the highest
    layer. `watched`: somebody is there all the time; `longest_gap_ms` is theirs."""
    stack = Stack(yaml, patient=False)
    try:
        stack.start()
        info = await stack.create("joins")
        Push(stack, f"{stack.rtmp_url}/{info.stream_key}", clip=clip)
        await stack.wait_state(info.ingress_id, "PUBLISHING")
        there = await Viewer(stack, "joins", "there").__aenter__() if watched else None
        await asyncio.sleep(WARM_UP + (0 if watched else 5))
        first, top, began = [], [], time.monotonic()
        for n in range(JOINS):
            at = time.monotonic()
            async with Viewer(stack, "joins", f"late{n}") as viewer:
                with contextlib.suppress(AssertionError):
                    await viewer.wait_size(1280, 720, 10)
                large = [frame for frame in viewer.frames if frame.height == 720]
                first.append(round(viewer.frames[0].at - at, 2) if viewer.frames else None)
                top.append(round(large[0].at - at, 2) if large else None)
            # Unwatched is a stream some seconds after the last viewer left.
            await asyncio.sleep(1.7 if watched else 15.3)
        found = dict(first_picture_s=first, highest_layer_s=top, bridges=stack.metric("ingress_passthrough_changes_total", reason="key_frame"))
        if there:
            found["longest_gap_ms"] = round(1000 * there.longest_gap(began))
            await there.__aexit__()
        return found
    finally:
        stack.stop()


async def all(show, seconds, clip):
    """Everything, the same of both one after the other."""
    near, far = fitting(clip, 50), fitting(clip, 125)
    codecs = floor(near)
    without_top = {name: cores for name, cores in codecs["parts"].items() if "1280" not in name}
    codecs["without_the_highest_layer"] = round(sum(without_top.values()), 3)
    show("codec floor", codecs)
    both = {"encoded": "passthrough: never\n", "passed": "passthrough: auto\n"}
    far_apart = {"encoded": both["encoded"], "passed": both["passed"] + "passthrough_max_keyframe_interval: 6s\n"}
    for name, yaml in both.items():
        show(f"three layers, {name}", await density(near, 1, 1, seconds, 0, yaml))
        show(f"one layer, {name}", await density(near, 1, 1, seconds, 0, yaml, video=ONE_LAYER))
        show(f"nobody watches, {name}", await density(near, 1, 0, seconds, 0, yaml))
        show(f"latency, {name}", await latency(seconds, yaml, NUMBERED))
    for name, yaml in far_apart.items():
        show(f"late viewers, key frames 5 s apart, {name}", await joins(yaml, far, True))
        show(f"late viewers of a stream that nobody watched, {name}", await joins(yaml, far, False))
