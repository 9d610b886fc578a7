"""Files to be pulled, and what pulling them should come to."""

import asyncio
import subprocess
import time
import weakref

from livekit.protocol import ingress as pb

from .media import QUIET
from .processes import Program
from .viewer import Viewer

URL = pb.IngressInput.URL_INPUT
TURNS = weakref.WeakKeyDictionary()  # a lock for each event loop: livekit-server loses some ingresses that are created at once


def make(stack, name, *coding, seconds=4, size="320x180", rate=30, video=True, audio=True):
    """A file of so many seconds with a test picture and a tone; made once."""
    path = stack.dir / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        inputs = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"] if video else []
        inputs += ["-f", "lavfi", "-i", f"sine=frequency=330:sample_rate=48000:duration={seconds},volume=4"] if audio else []
        subprocess.run([*QUIET, "-y", *inputs, *coding, "-shortest", str(path)], check=True, timeout=60)
    return name


H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30"]
BFRAMES = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "30", "-bf", "2"]
AAC = ["-c:a", "aac", "-ac", "2"]
FAST = ["-movflags", "+faststart"]


async def live_hls(directory, ended, segments=4):
    """An encoder that makes live HLS of one-second segments of `directory`/list.m3u8, once so many of them are there. `ended` is the fixture."""
    directory.mkdir(exist_ok=True)
    listed = directory / "list.m3u8"
    command = [
        *QUIET, "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-re", "-f", "lavfi", "-i", "sine=frequency=330,volume=4",
        *H264, *AAC, "-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments", str(listed),
    ]
    encoder = ended(Program("live-hls", command, directory.with_suffix(".log")))
    end = time.monotonic() + 20
    while not listed.exists() or listed.read_text().count("#EXTINF") < segments:
        assert time.monotonic() < end and encoder.running()
        await asyncio.sleep(0.1)
    return encoder


def srt_sender(stack, url, name, seconds=None):
    """ffmpeg with a test picture and a tone over SRT."""
    limit = ["-t", str(seconds)] if seconds else []
    command = [
        *QUIET, "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-re", "-f", "lavfi", "-i", "sine=frequency=330,volume=4",
        "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "30", "-c:a", "aac", *limit, "-f", "mpegts", url,
    ]
    return Program(name, command, stack.dir / f"{name}.log")


def turn():
    """To be held while an ingress is created beside others."""
    return TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())


async def pull(stack, room, url, **fields):
    return await stack.create(room, input_type=URL, url=url, **fields)


async def plays(stack, room, url, video="video/H264", audio="audio/aac", size=(320, 180), seconds=25, viewer=Viewer, tone=None, error=""):
    """Pulls `url` into `room` and sees and hears it to its end, with `error` in its last state. Many may do so at the same time."""
    async with viewer(stack, room) as viewer:
        async with turn():
            info = await pull(stack, room, url)
        if video:
            await viewer.wait_size(*size)
        if tone:
            await viewer.wait_tone(tone)
        elif audio:
            await viewer.wait_sound()
        state = await stack.wait_state(info.ingress_id, "COMPLETE", seconds)
    assert (state.error, state.video.mime_type, state.audio.mime_type) == (error, video or "", audio or "")
    return info, state, viewer


async def fails(stack, room, url, seconds=25, **fields):
    """Pulls `url`; gives the words that it ends with. Many may do so at the same time."""
    async with turn():
        info = await pull(stack, room, url, **fields)
    return (await stack.wait_state(info.ingress_id, "ERROR", seconds)).error
