"""What a pull may cost: the bounds of `url` in the configuration, each met by a source that goes beyond it."""

import time

import pytest
from conftest import run
from livekit.protocol import ingress as pb

from rig import Stack
from rig.media import numbered_clip
from rig.web import Web

URL = pb.IngressInput.URL_INPUT
LIMITS = """
url:
  max_play_time: 3s
  max_bytes: 300000
  max_file_size: 2000000
  timeout: 1s
  reconnect: 1s
"""


@pytest.fixture(scope="module")
def limited():
    for stack in run(Stack(LIMITS)):
        stack.start()
        web = Web(stack.dir)
        # Silence is outwaited here.
        web.server.stall = 20
        yield stack, web
        web.close()


async def ends(limited, room, path, status):
    stack, web = limited
    info = await stack.create(room, input_type=URL, url=f"{web.url}/{path}")
    return await stack.wait_state(info.ingress_id, status, 30)


async def test_play_time(limited):
    """What is longer ends as if that were its end."""
    numbered_clip(limited[0].dir / "long.flv", 8, coding=["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", "100k"])
    state = await ends(limited, "play-time", "file/long.flv", "COMPLETE")
    assert not state.error and 3 <= (state.ended_at - state.started_at) / 1e9 < 7.5


@pytest.mark.parametrize("how", ["file", "plain", "chunked"])
async def test_bytes(limited, how):
    path = limited[0].dir / "many.flv"
    if not path.exists():
        numbered_clip(path, 3)  # about a megabyte
    assert 600_000 < path.stat().st_size < 2_000_000
    state = await ends(limited, f"bytes-{how}", f"{how}/many.flv", "ERROR")
    assert "more than the allowed 300000 bytes" in state.error, state.error


async def test_size(limited):
    """Refused by what the server says of it, before any of it is played."""
    (limited[0].dir / "large.mp4").write_bytes(bytes(2_000_001))
    state = await ends(limited, "size", "file/large.mp4", "ERROR")
    assert "2000001 bytes, and 2000000 are allowed" in state.error, state.error


async def test_a_server_that_says_nothing(limited):
    begun = time.monotonic()
    state = await ends(limited, "silent", "silent/x.mp4", "ERROR")
    assert "did not answer within 1s" in state.error, state.error
    assert time.monotonic() - begun < 15
