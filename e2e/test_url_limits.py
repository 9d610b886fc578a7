"""What a pull may cost: the bounds of `url` in the configuration, each met by a source that goes beyond it."""

import time

import pytest
from conftest import run

from rig import Stack
from rig.media import numbered_clip
from rig.pulls import AAC, FAST, H264, make, pull

LIMITS = """
url:
  max_play_time: 3s
  max_bytes: 300000
  max_file_size: 2000000
  max_temporary_files: 0
  timeout: 1s
  reconnect: 1s
"""


@pytest.fixture(scope="module")
def stack():
    for s in run(Stack(LIMITS)):
        yield s.start()


async def ends(stack, web, room, path, status):
    info = await pull(stack, room, f"{web.url}/{path}")
    return await stack.wait_state(info.ingress_id, status, 30)


async def test_play_time(stack, web):
    """What is longer ends as if that were its end."""
    numbered_clip(stack.dir / "long.flv", 8, coding=["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", "100k"])
    state = await ends(stack, web, "play-time", "file/long.flv", "COMPLETE")
    assert not state.error and 3 <= (state.ended_at - state.started_at) / 1e9 < 7.5


async def test_play_time_with_a_stalling_server(stack, web):
    """What still waits for the server, and would try again for many seconds, does not hold the end up."""
    make(stack, "stuck.mp4", *H264, "-b:v", "300k", *AAC, *FAST, seconds=8)
    web.server.until, web.server.stall = (stack.dir / "stuck.mp4").stat().st_size // 3, 20
    state = await ends(stack, web, "play-time-stuck", "until/stuck.mp4", "COMPLETE")
    assert not state.error and 3 <= (state.ended_at - state.started_at) / 1e9 < 7.5


@pytest.mark.parametrize("how", ["file", "plain", "chunked"])
async def test_fetched_bytes(stack, web, how):
    path = stack.dir / "many.flv"
    if not path.exists():
        numbered_clip(path, 3)  # about a megabyte
    assert 600_000 < path.stat().st_size < 2_000_000
    state = await ends(stack, web, f"bytes-{how}", f"{how}/many.flv", "ERROR")
    assert "more than the allowed 300000 bytes" in state.error, state.error


async def test_file_size(stack, web):
    """Refused by what the server says of it, before any of it is played."""
    (stack.dir / "large.mp4").write_bytes(bytes(2_000_001))
    state = await ends(stack, web, "size", "file/large.mp4", "ERROR")
    assert "2000001 bytes, and 2000000 are allowed" in state.error, state.error


async def test_no_temporary_file_is_left(stack, web):
    """A file that would have to be kept on disk, where no more may be."""
    make(stack, "spooled.mp4", *H264, *AAC, seconds=1)
    state = await ends(stack, web, "spooled", "plain/spooled.mp4", "ERROR")
    assert "max_temporary_files" in state.error, state.error


async def test_a_silent_server(stack, web):
    web.server.stall = 20  # outwaited here
    begun = time.monotonic()
    state = await ends(stack, web, "silent", "silent/x.mp4", "ERROR")
    assert "gives nothing that can be pulled (this server's log says why)" in state.error, state.error
    stack.ingress.wait_log("did not answer within 1s")
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("name", ["drip.m3u8", "drip.mp4"])
async def test_a_dripping_server(stack, web, name):
    """Each of them in time, and all of them not."""
    (stack.dir / name).write_bytes(b"#EXTM3U\n".ljust(100) if name.endswith("m3u8") else bytes(100))
    state = await ends(stack, web, name.replace(".", "-"), f"drip/{name}", "ERROR")
    assert "is too slow: it did not send all of it within 2s" in state.error, state.error
