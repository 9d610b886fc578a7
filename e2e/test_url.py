"""URLs that are pulled: files of all kinds over HTTP, and what servers do to them."""

import asyncio
import subprocess
import time

import pytest
from livekit.protocol import ingress as pb

from rig import Viewer
from rig.media import QUIET
from rig.web import Web

URL = pb.IngressInput.URL_INPUT


@pytest.fixture(scope="module")
def web(stack):
    server = Web(stack.dir)
    yield server
    server.close()


def make(stack, name, *coding, seconds=6, size="320x180", rate=30, video=True, audio=True):
    """A file of so many seconds with a test picture and a tone; made once."""
    path = stack.dir / name
    if not path.exists():
        inputs = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"] if video else []
        inputs += ["-f", "lavfi", "-i", f"sine=frequency=330:sample_rate=48000:duration={seconds},volume=4"] if audio else []
        subprocess.run([*QUIET, "-y", *inputs, *coding, "-shortest", str(path)], check=True, timeout=60)
    return name


H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60"]
AAC = ["-c:a", "aac", "-ac", "2"]
FAST = ["-movflags", "+faststart"]


async def pull(stack, room, url, **fields):
    return await stack.create(room, input_type=URL, url=url, **fields)


async def plays(stack, room, url, video="video/H264", audio="audio/aac", size=(320, 180), seconds=20):
    """Pulls `url` into `room` and sees and hears it to its end."""
    async with Viewer(stack, room) as viewer:
        info = await pull(stack, room, url)
        if video:
            await viewer.wait_size(*size)
        if audio:
            await viewer.wait_sound()
        state = await stack.wait_state(info.ingress_id, "COMPLETE", seconds)
    assert (state.error, state.video.mime_type, state.audio.mime_type) == ("", video or "", audio or "")
    return info, state, viewer


async def fails(stack, room, url, seconds=20, **fields):
    """Pulls `url`; gives the words that it ends with."""
    info = await pull(stack, room, url, **fields)
    return (await stack.wait_state(info.ingress_id, "ERROR", seconds)).error


async def test_a_file_plays_from_its_first_to_its_last_picture(stack, web, reports):
    make(stack, "fast.mp4", *H264, *AAC, *FAST)
    info, state, viewer = await plays(stack, "mp4", f"{web.url}/file/fast.mp4")
    assert state.resource_id.startswith("UR_")
    assert reports.statuses(info.ingress_id) == ["BUFFERING", "PUBLISHING", "COMPLETE"]
    length = (state.ended_at - state.started_at) / 1e9
    assert 6 <= length < 12, length
